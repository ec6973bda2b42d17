//! The `bgfiles` binary: the command line over the declared file types.

fn main() -> std::process::ExitCode {
    bgfiles::cli::main(bgfiles::Registry::new())
}
