//! What happens under a seed: everything that is left to chance is decided here.

use std::time::Duration;

use crate::chance::Chance;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    Sqlite,
    Postgres,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Folder,
    S3,
}

/// A process of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Web,
    WorkerOne,
    WorkerTwo,
    Cleaner,
}

pub const EVERYBODY: [Who; 4] = [Who::Web, Who::WorkerOne, Who::WorkerTwo, Who::Cleaner];

/// A service that is reached through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Database,
    Mail,
    Store,
}

/// What its proxy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Pass,
    /// Connections are cut, and new ones closed at once.
    Cut,
    /// Nothing comes through, and nobody is told.
    Stall,
    /// Each piece waits so many milliseconds.
    Slow(u64),
    /// HTTP alone: 503 to everything.
    Unavailable,
    /// Connections that are open now stay so, and nobody says anything on them ever again.
    BlackHole,
}

#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Kill(Who),
    /// SIGSTOP, then SIGCONT.
    Stop(Who, Duration),
    Terminate(Who),
    /// Killed, and started again with a failpoint that aborts at the n-th time.
    Arm(Who, &'static str, u64),
    /// `pg_ctl -m immediate`, and started again after the pause.
    Postgres(Duration),
    /// SQLite's file is locked.
    Lock(Duration),
    Wire(Service, Wire, Duration),
    /// The next mails are taken, and the connection is cut before the answer.
    LoseAnswers(u64),
    /// The next mails are answered with 451.
    Refuse(u64),
    /// So many clients leave before they are answered, while others record without a key.
    Leave(u64),
    FillDisk(Duration),
    /// The clock of one process is moved by seconds.
    Clock(Who, i64),
    /// `bgfiles migrate`, killed after a while.
    Migrate(Duration),
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub database: Database,
    pub store: Store,
    /// The storage, and SQLite's file, are on a disk of their own.
    pub small_disk: bool,
    /// The database is not there when the processes start, for so long.
    pub away_at_boot: Option<Duration>,
    /// The database is of a version with so many migrations, and has requests that wait. It is
    /// migrated by a process that is cut off, and then by another.
    pub old_schema: Option<usize>,
    /// The second worker is of a build that lacks a file type.
    pub lacks_a_type: bool,
    /// With which failpoints processes start.
    pub armed: Vec<(Who, &'static str, u64)>,
    pub faults: Vec<(Duration, Fault)>,
    pub requests: u64,
}

/// Steps of the workers and how often one is reached, at most, before it is certain to come.
const WORK: [(&str, u64); 6] = [
    ("claimed", 8),
    ("generating", 40),
    ("half-uploaded", 2),
    ("uploaded", 8),
    ("published", 8),
    ("mailed", 8),
];

/// Faults begin within this time.
pub const BUSY: Duration = Duration::from_secs(6);

fn armed(chance: &mut Chance) -> (Who, &'static str, u64) {
    match chance.range(0, 10) {
        0 => (Who::Cleaner, chance.pick(&["cleaning", "removed"]), chance.range(0, 3)),
        1 => (Who::Web, "recorded", chance.range(0, 12)),
        _ => {
            let (step, most) = chance.pick(&WORK);
            (chance.pick(&[Who::WorkerOne, Who::WorkerTwo]), step, chance.range(0, most))
        }
    }
}

fn seconds(chance: &mut Chance, low: u64, high: u64) -> Duration {
    Duration::from_millis(chance.range(low * 1000, high * 1000))
}

fn fault(chance: &mut Chance, plan: &Plan) -> Fault {
    let worker = chance.pick(&[Who::WorkerOne, Who::WorkerTwo]);
    let anybody = chance.pick(&EVERYBODY);
    loop {
        return match chance.range(0, 16) {
            0 | 1 => Fault::Kill(if chance.percent(70) { worker } else { anybody }),
            2 => Fault::Stop(
                if chance.percent(80) { worker } else { anybody },
                seconds(chance, 3, 6),
            ),
            3 => Fault::Terminate(anybody),
            4 | 5 => {
                let (who, step, nth) = armed(chance);
                Fault::Arm(who, step, nth)
            }
            6 if plan.database == Database::Postgres => Fault::Postgres(seconds(chance, 0, 4)),
            6 => Fault::Lock(seconds(chance, 1, 12)),
            7 if plan.database == Database::Postgres => {
                let wire = chance.pick(&[Wire::Cut, Wire::Stall, Wire::Slow(20), Wire::BlackHole]);
                Fault::Wire(Service::Database, wire, seconds(chance, 0, 4))
            }
            8 if plan.store == Store::S3 => {
                let wire =
                    chance.pick(&[Wire::Cut, Wire::Stall, Wire::Slow(10), Wire::Unavailable]);
                Fault::Wire(Service::Store, wire, seconds(chance, 0, 4))
            }
            9 => {
                let wire = chance.pick(&[Wire::Cut, Wire::Stall, Wire::Slow(30)]);
                Fault::Wire(Service::Mail, wire, seconds(chance, 0, 4))
            }
            10 => Fault::LoseAnswers(chance.range(1, 4)),
            11 => Fault::Refuse(chance.range(1, 6)),
            12 if plan.small_disk => Fault::FillDisk(seconds(chance, 1, 4)),
            12 => Fault::Clock(worker, chance.pick(&[-20, -5, 5, 20])),
            13 => Fault::Migrate(seconds(chance, 0, 2)),
            14 | 15 => Fault::Leave(chance.range(100, 400)),
            _ => continue,
        };
    }
}

impl Plan {
    pub fn of(seed: u64) -> Plan {
        let mut chance = Chance::new(seed);
        let database = if seed.is_multiple_of(2) { Database::Postgres } else { Database::Sqlite };
        let store = if (seed / 2).is_multiple_of(2) { Store::Folder } else { Store::S3 };
        let mut plan = Plan {
            seed,
            database,
            store,
            small_disk: store == Store::Folder && chance.percent(40),
            away_at_boot: (database == Database::Postgres && chance.percent(15))
                .then(|| seconds(&mut chance, 1, 5)),
            old_schema: chance.percent(15).then(|| chance.range(0, 7) as usize),
            lacks_a_type: chance.percent(25),
            armed: Vec::new(),
            faults: Vec::new(),
            requests: chance.range(24, 40),
        };
        for _ in 0..chance.range(0, 4) {
            let one = armed(&mut chance);
            if plan.armed.iter().all(|other| other.0 != one.0) {
                plan.armed.push(one);
            }
        }
        for _ in 0..chance.range(3, 7) {
            let at = seconds(&mut chance, 0, BUSY.as_secs());
            let fault = fault(&mut chance, &plan);
            plan.faults.push((at, fault));
        }
        if plan.small_disk {
            let (at, full) = (seconds(&mut chance, 0, 4), seconds(&mut chance, 1, 4));
            plan.faults.push((at, Fault::FillDisk(full)));
        }
        plan.faults.sort_by_key(|(at, _)| *at);
        plan
    }

    /// Nothing goes wrong.
    pub fn calm(database: Database, store: Store) -> Plan {
        Plan {
            seed: 0,
            database,
            store,
            small_disk: false,
            away_at_boot: None,
            old_schema: None,
            lacks_a_type: false,
            armed: Vec::new(),
            faults: Vec::new(),
            requests: 16,
        }
    }

    /// A new version comes: the schema of an old one is migrated, then again while everything runs,
    /// and one process after the other is replaced.
    pub fn upgrade(database: Database) -> Plan {
        let after = Duration::from_millis;
        let mut faults = vec![(after(1_000), Fault::Migrate(after(5_000)))];
        for (at, who) in (1_500..).step_by(1_000).zip(EVERYBODY) {
            faults.push((after(at), Fault::Terminate(who)));
        }
        Plan { old_schema: Some(5), faults, requests: 30, ..Plan::calm(database, Store::Folder) }
    }
}
