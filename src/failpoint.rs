//! Steps of a request's way at which a test lets this process die, pause or panic.
//!
//! Without the feature `failpoints` there is nothing here. With it, the environment variable
//! `FAILPOINTS` says what happens where, in the words of the crate `fail`, beside which
//! `return(abort)` ends the process on the spot: `published=3*off->1*return(abort)`.

/// Says that a step was reached.
#[cfg(feature = "failpoints")]
pub(crate) fn reached(step: &str) {
    // What the crate itself knows (pauses, panics) has happened when this returns.
    let told = fail::eval(step, |word| word);
    if told.flatten().is_some_and(|word| word == "abort") {
        std::process::abort();
    }
}

/// Says that a step was reached.
#[cfg(not(feature = "failpoints"))]
pub(crate) const fn reached(_step: &str) {}

/// Reads what is to happen.
#[cfg(feature = "failpoints")]
pub(crate) fn arm() {
    // As long as the process lives.
    std::mem::forget(fail::FailScenario::setup());
}

/// Reads what is to happen.
#[cfg(not(feature = "failpoints"))]
pub(crate) const fn arm() {}
