//! The command line: one binary, one file a subcommand.
//!
//! Results go to standard output, logs to standard error. Exit codes: 0 done, 1 failed, 2 usage.
//! A host application with handlers of its own gets the same commands by calling [`main`] with
//! its registry.

mod check;
mod clean;
mod completions;
mod demo;
mod doctor;
mod export;
mod health;
mod link;
mod locks;
mod man;
mod migrate;
mod output;
mod process;
mod request;
mod request_token;
mod setup;
mod target;
mod test_mail;
mod token;
mod tokens;
mod users;
mod web;
mod worker;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::{config::Flags, error::Result, registry::Registry};
use output::complain;

/// Background file requests: record, make later, store, mail a signed link, expire.
#[derive(Parser)]
#[command(name = "bgfiles", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:\n  bgfiles demo                     see it work, on real data\n  bgfiles migrate && bgfiles web   serve the API and downloads\n  bgfiles worker                   make the files\n\nSettings come from flags, then the environment, then bgfiles.toml; `bgfiles check` shows them all.";

/// Settings that every command understands.
#[derive(clap::Args)]
struct Common {
    /// `sqlite:PATH` or `postgres://…` [env: DATABASE_URL]
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
    /// `file:FOLDER`, `s3://bucket/prefix`, `gs://…`, `az://…` [env: BGFILES_STORAGE]
    #[arg(long, global = true, value_name = "URL")]
    storage: Option<String>,
    /// `smtp://…`, `smtps://…` or `file:FOLDER` [env: BGFILES_MAIL]
    #[arg(long, global = true, value_name = "URL")]
    mail: Option<String>,
    /// Folder of declared file types [env: BGFILES_JOBS_DIR]
    #[arg(long, global = true, value_name = "DIR")]
    jobs_dir: Option<String>,
    /// What is logged, e.g. `info` or `bgfiles=debug` [env: BGFILES_LOG]
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
}

impl Common {
    fn flags(self) -> Flags {
        let given = [
            ("database_url", self.database_url),
            ("storage", self.storage),
            ("mail", self.mail),
            ("jobs_dir", self.jobs_dir),
            ("log", self.log),
        ];
        given.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }
}

#[derive(Subcommand)]
enum Command {
    /// Bring the database's schema up to date
    Migrate(migrate::Migrate),
    /// Serve the API and downloads
    Web(web::Web),
    /// Make files and send notices
    Worker(worker::Worker),
    /// Remove what has expired, once or again and again
    Clean(clean::Clean),
    /// Work off what is outstanding, then exit (for cron)
    Process(process::Process),
    /// See it work: real data, one process, no services
    Demo(demo::Demo),
    /// Show the settings in force and check `jobs/` and templates
    Check(check::Check),
    /// Try what needs the network: database, store, mail, clock
    Doctor(doctor::Doctor),
    /// Send one mail of the usual look, to see whether it arrives
    SendTestMail(test_mail::SendTestMail),
    /// Make a file here and now, without the queue
    Export(export::Export),
    /// Record a file request
    Request(request::Request),
    /// Make a download link for a finished request
    Link(link::Link),
    /// Look into a token
    #[command(subcommand)]
    Token(token::Token),
    /// Issue, show and end request tokens
    #[command(subcommand)]
    RequestToken(request_token::Command),
    /// Remove old lines of the log of request tokens
    TruncateRequestTokenLog(request_token::TruncateLog),
    /// Remove locks whose time is over
    RemoveExpiredLocks(locks::RemoveExpiredLocks),
    /// Add a user
    CreateUser(users::CreateUser),
    /// Add an API client
    CreateClient(users::CreateClient),
    /// Change a user's address or role, or deactivate them
    SetUser(users::SetUser),
    /// Give a user another password
    SetPassword(users::SetPassword),
    /// Issue an API token; its secret is printed once
    CreateToken(tokens::CreateToken),
    /// Show API tokens, and who used them last
    ListTokens(tokens::ListTokens),
    /// End an API token, at once and in every process
    RevokeToken(tokens::RevokeToken),
    /// Ask a process here whether it lives (for containers)
    Health(health::Health),
    /// Print what completes the commands in a shell
    Completions(completions::Completions),
    /// Print the manual page, or write all of them to a folder
    Man(man::Man),
}

/// Runs the command line with the given handlers beside the declared ones.
pub fn main(registry: Registry) -> ExitCode {
    crate::failpoint::arm();
    crate::tls::install();
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    let code = match runtime.block_on(run(cli, registry)) {
        Ok(code) => code,
        Err(error) => {
            complain(&error.in_full());
            ExitCode::FAILURE
        }
    };
    // Blocking work that nobody waits for any more must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    code
}

async fn run(cli: Cli, registry: Registry) -> Result<ExitCode> {
    let flags = cli.common.flags();
    match cli.command {
        Command::Migrate(command) => command.run(&flags).await,
        Command::Web(command) => command.run(flags, registry).await,
        Command::Worker(command) => command.run(flags, registry).await,
        Command::Clean(command) => command.run(&flags, registry).await,
        Command::Process(command) => command.run(&flags, registry).await,
        Command::Demo(command) => command.run(flags, registry).await,
        Command::Check(command) => command.run(&flags, registry).await,
        Command::Doctor(command) => command.run(&flags).await,
        Command::SendTestMail(command) => command.run(&flags, registry).await,
        Command::Export(command) => command.run(&flags, registry).await,
        Command::Request(command) => command.run(&flags, registry).await,
        Command::Link(command) => command.run(&flags, registry).await,
        Command::Token(command) => command.run(&flags),
        Command::RequestToken(command) => command.run(&flags).await,
        Command::TruncateRequestTokenLog(command) => command.run(&flags).await,
        Command::RemoveExpiredLocks(command) => command.run(&flags).await,
        Command::CreateUser(command) => command.run(&flags).await,
        Command::CreateClient(command) => command.run(&flags).await,
        Command::SetUser(command) => command.run(&flags).await,
        Command::SetPassword(command) => command.run(&flags).await,
        Command::CreateToken(command) => command.run(&flags).await,
        Command::ListTokens(command) => command.run(&flags).await,
        Command::RevokeToken(command) => command.run(&flags).await,
        Command::Health(command) => command.run(&flags).await,
        Command::Completions(command) => command.run(&mut Cli::command()),
        Command::Man(command) => command.run(Cli::command()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn no_two_arguments_share_a_name() {
        super::Cli::command().debug_assert();
    }
}
