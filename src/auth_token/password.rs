//! Passwords: argon2id with the library's defaults (19 MiB, two passes: OWASP's first choice).

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, password_hash::phc::PasswordHash,
};
use tokio::sync::Semaphore;
use unicode_normalization::UnicodeNormalization;
use zxcvbn::{Score, zxcvbn};

use crate::{
    error::{Error, Result},
    ids::random_bytes,
};

/// Shortest password accepted, in characters.
const MIN_LENGTH: usize = 12;
/// Longest, in bytes: nothing is cut off silently, and nobody keeps us hashing.
const MAX_LENGTH: usize = 1024;

/// Most memory of a hash that is checked, in KiB, and most passes: those of other programs' argon2 fit
/// by far, and nobody is kept out of memory by a row.
const MOST_MEMORY: u32 = 256 * 1024;
const MOST_PASSES: u32 = 64;

/// As many at once as there are processors: each takes 19 MiB and a processor of its own, and a
/// flood of logins shall have neither all memory nor all threads.
static PERMITS: LazyLock<Semaphore> = LazyLock::new(|| {
    Semaphore::new(std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
});

/// Logins that wait for their turn at most: those behind would wait for seconds.
const QUEUE: usize = 64;
/// Of these, places for people who are known where they come from, so that a flood from elsewhere does
/// not keep them out.
const RESERVED: usize = 16;
/// When to try again.
const AGAIN: Duration = Duration::from_secs(2);

/// How many wait.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// A place in the queue, free again when this is dropped.
struct Queued;

impl Queued {
    fn up(known: bool) -> Result<Queued> {
        let most = if known { QUEUE } else { QUEUE - RESERVED };
        let more = |waiting: usize| (waiting < most).then_some(waiting + 1);
        match WAITING.fetch_update(SeqCst, SeqCst, more) {
            Ok(_) => Ok(Queued),
            Err(_) => Err(Error::Overloaded { retry_after: AGAIN }),
        }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, SeqCst);
    }
}

/// The hash of a password that nobody has, for names that nobody has.
static NOBODY: LazyLock<String> = LazyLock::new(|| {
    let hash = Argon2::default().hash_password_with_salt(&random_bytes::<32>(), &[0; 16]);
    hash.map(|hash| hash.to_string()).unwrap_or_default()
});

/// The same for however a keyboard composes it (NIST SP 800-63B, 3.1.1.2).
fn normal(password: &str) -> String {
    password.nfkc().collect()
}

/// Refuses passwords that are too short, too long, or among the first that people try: common
/// ones, keyboard rows, repetitions, dates, and what derives from `about` (the user's name and
/// address).
///
/// # Errors
/// [`Error::Invalid`] on `password`.
pub fn check_password(password: &str, about: &[&str]) -> Result<()> {
    let password = normal(password);
    if password.chars().count() < MIN_LENGTH || password.len() > MAX_LENGTH {
        let message =
            format!("must be {MIN_LENGTH} characters or more, and {MAX_LENGTH} bytes or less");
        return Err(Error::invalid("password", message));
    }
    let about: Vec<&str> = about.iter().flat_map(|text| text.split('@')).collect();
    if zxcvbn(&password, &about).score() < Score::Three {
        let message = "is too easy to guess: it is common, repeats itself, or is made of the name; \
            several unusual words are better";
        return Err(Error::invalid("password", message));
    }
    Ok(())
}

/// The PHC string of a password. Takes a good part of a second of CPU: call it where that hurts
/// nobody.
///
/// # Errors
/// As [`check_password`].
pub fn hash_password(password: &str, about: &[&str]) -> Result<String> {
    check_password(password, about)?;
    let hash = Argon2::default()
        .hash_password_with_salt(normal(password).as_bytes(), &random_bytes::<16>())
        .map_err(|e| Error::Internal(format!("hashing: {e}")))?;
    Ok(hash.to_string())
}

/// Whether a stored hash is one that [`verify_password`] can check, in bounded memory and time. What
/// others made (`pbkdf2_sha256$…`, `!`) is none.
pub(super) fn is_ours(hash: &str) -> bool {
    let Ok(hash) = PasswordHash::new(hash) else { return false };
    let is_argon2 = Algorithm::try_from(hash.algorithm.as_str()).is_ok();
    let fits = |params: Params| params.m_cost() <= MOST_MEMORY && params.t_cost() <= MOST_PASSES;
    is_argon2 && hash.hash.is_some() && Params::try_from(&hash).is_ok_and(fits)
}

/// Whether a password has this hash. Without a hash, or with one that is none of ours, it takes the same time, and says no. `known` is
/// whether somebody by this name has logged in from there before.
///
/// # Errors
/// [`Error::Overloaded`] when too many wait already; [`Error::Internal`] when hashing is not possible.
pub async fn verify_password(hash: Option<String>, password: &str, known: bool) -> Result<bool> {
    // A longer one was never accepted; hashing it all would be a way to keep us busy.
    let password = if password.len() <= 2 * MAX_LENGTH { normal(password) } else { String::new() };
    let busy = |_| Error::Internal("password hashing has ended".into());
    let permit = match PERMITS.try_acquire() {
        Ok(permit) => permit,
        Err(_) => {
            let _queued = Queued::up(known)?;
            PERMITS.acquire().await.map_err(busy)?
        }
    };
    let verify = move || {
        // Held until the hash is done, whether or not somebody still waits for it.
        let _permit = permit;
        let hash = hash.filter(|hash| is_ours(hash));
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| NOBODY.clone());
        let hash = PasswordHash::new(&hash)
            .map_err(|e| Error::Internal(format!("a stored password hash: {e}")))?;
        let same = Argon2::default().verify_password(password.as_bytes(), &hash).is_ok();
        Ok(same && known)
    };
    tokio::task::spawn_blocking(verify).await.map_err(|e| Error::Internal(e.to_string()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_easy() {
        for easy in [
            "short",
            "elevenchars",
            "passwordpassword",
            "Password12345",
            "qwertyuiop12",
            "aaaaaaaaaaaa",
            "123456789012",
            "amysmith2026",
            "billingbilling",
            "iloveyouiloveyou",
        ] {
            let refused = check_password(easy, &["billing", "amysmith@example.com"]);
            assert!(refused.is_err(), "{easy}");
        }
        for fine in ["correct horse battery staple", "tiger-lamp-orbit-9", "пять лошадей и слон"]
        {
            check_password(fine, &["billing"]).unwrap();
        }
        assert!(check_password(&"x7!ü ".repeat(400), &[]).is_err(), "nothing is cut off");
    }
}
