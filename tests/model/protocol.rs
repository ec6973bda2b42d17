//! The protocol as states and steps. A step is what one statement, one transaction or one call of
//! the store or the mail server does: whatever comes between two of them may be another's step, or
//! the end of the process.

use std::collections::{BTreeMap, BTreeSet};

use stateright::{Model, Property};

use crate::properties;

/// Attempts that a handler gets.
pub const MAX_ATTEMPTS: u8 = 2;

/// A rule left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    LeaseNotCompared,
    AttemptsNotCounted,
    CrashesNotCounted,
    SilentWorkersForgotten,
    KeyWithoutGeneration,
    PublishWithoutGeneration,
    EndWithoutGeneration,
    CancelNotSeenAtPublish,
    LostAnswerTakenForRefusal,
    NoticeAfterPublishing,
    NoticeClaimWithoutLease,
    MessageIdForEachTry,
    CleanerIgnoresLeases,
    RemovalWithoutMark,
    MarkWithoutSecondLook,
    OrphansNotSwept,
}

/// How often each thing may happen in one history. What is left of it is part of the state, so
/// histories end: every way round takes some of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// A process dies, is paused beyond its lease, or loses the answer to a commit.
    pub faults: u8,
    /// A handler or a mail server refuses for now.
    pub errors: u8,
    /// A worker ends and gives its work back.
    pub stops: u8,
    pub cancels: u8,
    pub retries: u8,
    pub deletions: u8,
    pub extensions: u8,
    /// A file comes from outside.
    pub attachments: u8,
}

impl Budget {
    /// What can make a request be begun once more.
    pub fn reasons(self) -> u8 {
        // Once to seize it; once more by a worker, when the attachment was cancelled.
        self.faults + self.errors + self.stops + self.retries + 2 * self.attachments
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    Pending,
    Running,
    Finished,
    Failed,
    Cancelled,
    Expired,
    /// The row is removed.
    Gone,
}

impl Status {
    pub fn is_end(self) -> bool {
        !matches!(self, Status::Pending | Status::Running)
    }
}

/// A request's row, and (the last two) what only the model knows of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    pub status: Status,
    pub generation: u8,
    /// Whether the lease lasts.
    pub leased: bool,
    pub attempts: u8,
    pub crashes: u8,
    pub cancel: bool,
    /// The object that counts.
    pub key: Option<u8>,
    /// Whether expiry and leeway have passed.
    pub over: bool,
    pub notices: Vec<Notice>,
    /// How often the handler was started, since the last retry.
    pub starts: u8,
    /// Whether the file came from outside: nobody is mailed.
    pub attached: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Notice {
    /// Of the attempt whose end it tells.
    pub of: u8,
    pub sent: bool,
    pub generation: u8,
    pub leased: bool,
}

/// A process, and where in its work it is. What it carries is what it knew at its claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Worker {
    Idle,
    Making {
        request: usize,
        generation: u8,
        attempts: u8,
        spent: bool,
        attach: bool,
    },
    /// The object is stored.
    Made {
        request: usize,
        generation: u8,
        attach: bool,
    },
    /// The file does not count: the object is to go, then the end is to be written.
    Refused {
        request: usize,
        generation: u8,
        removed: bool,
    },
    /// Only of [`Broken::NoticeAfterPublishing`].
    Telling {
        request: usize,
        generation: u8,
    },
    Mailing {
        request: usize,
        notice: usize,
        generation: u8,
        accepted: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cleaner {
    Idle,
    /// It read that the row is removable.
    Listed(usize),
    /// It has made the row `expired`, and knows its object.
    Marked(usize, Option<u8>),
    /// The object is gone.
    Emptied(usize),
    /// It read that no row wants this object.
    Unwanted(usize, u8),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub rows: Vec<Row>,
    /// By request and key, the generation that wrote it.
    pub objects: BTreeMap<(usize, u8), u8>,
    /// By request, generation and try (0 but for [`Broken::MessageIdForEachTry`]): a `Message-ID`.
    pub mails: BTreeMap<(usize, u8, u8), u8>,
    /// In order: which of them does what makes no difference.
    pub workers: Vec<Worker>,
    pub cleaner: Cleaner,
    pub left: Budget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Claim(usize, usize),
    Attach(usize, usize),
    Upload(usize),
    /// The heartbeat finds that the request was cancelled or taken over.
    Beat(usize),
    Renew(usize),
    Publish(usize),
    PublishUnanswered(usize),
    RemoveOwn(usize),
    EndCancelled(usize),
    GiveUp(usize),
    Fail(usize),
    FailForNow(usize),
    GiveBack(usize),
    Tell(usize),
    ClaimNotice(usize, usize, usize),
    Mail(usize),
    MailRefused(usize),
    Record(usize),
    Die(usize),
    LeaseEnds(usize),
    NoticeLeaseEnds(usize, usize),
    Cancel(usize),
    Retry(usize),
    Delete(usize),
    Extend(usize),
    TimePasses(usize),
    List(usize),
    Mark,
    RemoveObject,
    RemoveRow,
    Look(usize, u8),
    Sweep,
    CleanerDies,
}

impl Step {
    /// Whether workers or the cleaner do it by themselves, or time does, without any fault.
    pub fn is_work(self) -> bool {
        use Step::*;
        match self {
            Claim(..) | Upload(_) | Beat(_) | Publish(_) | RemoveOwn(_) | EndCancelled(_)
            | GiveUp(_) | Tell(_) | ClaimNotice(..) | Mail(_) | Record(_) | LeaseEnds(_)
            | NoticeLeaseEnds(..) => true,
            _ => self.is_cleaning(),
        }
    }

    fn is_cleaning(self) -> bool {
        use Step::*;
        matches!(self, TimePasses(_) | List(_) | Mark | RemoveObject | RemoveRow | Look(..) | Sweep)
    }

    /// The same, but for cleaning.
    pub fn is_making(self) -> bool {
        self.is_work() && !self.is_cleaning()
    }
}

/// A small world to look at in full.
#[derive(Clone, Debug)]
pub struct Protocol {
    pub requests: usize,
    pub workers: usize,
    pub budget: Budget,
    pub broken: Option<Broken>,
}

impl Protocol {
    pub fn is(&self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }

    pub fn key(&self, generation: u8) -> u8 {
        if self.is(Broken::KeyWithoutGeneration) { 0 } else { generation }
    }

    fn is_claimable(&self, row: &Row) -> bool {
        match row.status {
            Status::Pending => true,
            Status::Running if self.is(Broken::SilentWorkersForgotten) => false,
            Status::Running => !row.leased || self.is(Broken::LeaseNotCompared),
            _ => false,
        }
    }

    /// As the sweep of orphan objects sees it.
    fn is_unwanted(&self, row: &Row, key: u8) -> bool {
        let made = row.status != Status::Gone && row.key == Some(key);
        let being_made = row.status == Status::Running
            && self.key(row.generation) == key
            && !self.is(Broken::CleanerIgnoresLeases);
        !made && !being_made
    }

    pub fn steps(&self, state: &State) -> Vec<Step> {
        let mut steps = Vec::new();
        self.actions(state, &mut steps);
        steps
    }
}

impl State {
    /// The row, when the generation is still its own.
    fn held(&mut self, request: usize, generation: u8, unchecked: bool) -> Option<&mut Row> {
        let row = &mut self.rows[request];
        let ours = row.generation == generation || unchecked;
        (row.status == Status::Running && ours).then_some(row)
    }

    /// Whether somebody alive has the lease.
    pub fn is_held(&self, request: usize) -> bool {
        let row = &self.rows[request];
        self.workers.iter().any(|worker| match *worker {
            Worker::Making { request: r, generation, .. }
            | Worker::Made { request: r, generation, .. }
            | Worker::Refused { request: r, generation, .. } => {
                (r, generation) == (request, row.generation)
            }
            _ => false,
        })
    }

    fn is_being_mailed(&self, request: usize, notice: usize) -> bool {
        let claimed = self.rows[request].notices[notice].generation;
        self.workers.iter().any(|worker| {
            matches!(*worker, Worker::Mailing { request: r, notice: n, generation, .. }
                if (r, n, generation) == (request, notice, claimed))
        })
    }

    /// Writes how an attempt ended, with the notice of a failure.
    fn end(&mut self, request: usize, generation: u8, status: Status, unchecked: bool) {
        let Some(row) = self.held(request, generation, unchecked) else { return };
        row.status = if row.cancel { Status::Cancelled } else { status };
        (row.leased, row.over) = (false, false);
        if row.status == Status::Failed {
            row.tell();
        }
    }
}

impl Row {
    fn new() -> Self {
        Row {
            status: Status::Pending,
            generation: 0,
            leased: false,
            attempts: 0,
            crashes: 0,
            cancel: false,
            key: None,
            over: false,
            notices: Vec::new(),
            starts: 0,
            attached: false,
        }
    }

    fn tell(&mut self) {
        let of = self.generation;
        self.notices.push(Notice { of, sent: false, generation: 0, leased: false });
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            rows: vec![Row::new(); self.requests],
            objects: BTreeMap::new(),
            mails: BTreeMap::new(),
            workers: vec![Worker::Idle; self.workers],
            cleaner: Cleaner::Idle,
            left: self.budget,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        use Step::*;
        let left = state.left;
        let mut may = |step: Step, condition: bool| {
            if condition {
                steps.push(step);
            }
        };
        let mut seen = BTreeSet::new();
        for (w, worker) in state.workers.iter().enumerate() {
            // Two that are at the same point would do the same.
            if !seen.insert(*worker) {
                continue;
            }
            may(Die(w), left.faults > 0 && *worker != Worker::Idle);
            match *worker {
                Worker::Idle => {
                    for (r, row) in state.rows.iter().enumerate() {
                        may(Claim(w, r), self.is_claimable(row));
                        let there = !matches!(row.status, Status::Expired | Status::Gone);
                        may(Attach(w, r), left.attachments > 0 && there);
                        for (n, notice) in row.notices.iter().enumerate() {
                            let free = !notice.leased || self.is(Broken::NoticeClaimWithoutLease);
                            may(ClaimNotice(w, r, n), !notice.sent && free);
                        }
                    }
                }
                Worker::Making { request, generation, attempts, spent, attach } => {
                    let row = &state.rows[request];
                    let held = row.status == Status::Running && row.generation == generation;
                    may(GiveUp(w), spent);
                    may(Upload(w), !spent);
                    may(Beat(w), !spent && !attach && (!held || row.cancel));
                    may(Renew(w), !spent && !attach && held && !row.leased);
                    let fails = left.errors > 0 && !spent && !attach;
                    may(Fail(w), fails);
                    may(FailForNow(w), fails && attempts < MAX_ATTEMPTS);
                    may(GiveBack(w), left.stops > 0 && !spent && !attach);
                }
                Worker::Made { .. } => {
                    may(Publish(w), true);
                    may(PublishUnanswered(w), left.faults > 0);
                }
                Worker::Refused { removed, .. } => {
                    may(RemoveOwn(w), !removed);
                    may(EndCancelled(w), removed);
                }
                Worker::Telling { .. } => may(Tell(w), true),
                Worker::Mailing { accepted, .. } => {
                    may(Mail(w), !accepted);
                    may(MailRefused(w), !accepted && left.errors > 0);
                    may(Record(w), accepted);
                }
            }
        }
        let idle = state.cleaner == Cleaner::Idle;
        for (r, row) in state.rows.iter().enumerate() {
            // A lease ends under its holder only when that one is paused, or a clock is wrong.
            let ends = row.status == Status::Running && row.leased;
            may(LeaseEnds(r), ends && (left.faults > 0 || !state.is_held(r)));
            for (n, notice) in row.notices.iter().enumerate() {
                let ends = notice.leased && !notice.sent;
                may(
                    NoticeLeaseEnds(r, n),
                    ends && (left.faults > 0 || !state.is_being_mailed(r, n)),
                );
            }
            may(Cancel(r), left.cancels > 0 && !row.status.is_end() && !row.cancel);
            let again = matches!(row.status, Status::Failed | Status::Cancelled);
            may(Retry(r), left.retries > 0 && again);
            may(Extend(r), left.extensions > 0 && row.status == Status::Finished && row.over);
            let removable = !matches!(row.status, Status::Running | Status::Gone);
            may(Delete(r), left.deletions > 0 && idle && removable && !row.over);
            may(TimePasses(r), row.status.is_end() && removable && !row.over);
            may(List(r), idle && removable && row.over);
        }
        match state.cleaner {
            Cleaner::Idle => {
                let sweeps = !self.is(Broken::OrphansNotSwept);
                for &(r, key) in state.objects.keys() {
                    may(Look(r, key), sweeps && self.is_unwanted(&state.rows[r], key));
                }
            }
            Cleaner::Listed(_) => may(Mark, true),
            Cleaner::Marked(..) => may(RemoveObject, true),
            Cleaner::Emptied(_) => may(RemoveRow, true),
            Cleaner::Unwanted(..) => may(Sweep, true),
        }
        may(CleanerDies, left.faults > 0 && !idle);
    }

    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        let mut state = before.clone();
        self.take(&mut state, step);
        state.workers.sort_unstable();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

impl Protocol {
    fn take(&self, state: &mut State, step: Step) {
        use Step::*;
        match step {
            Claim(w, r) => {
                let row = &mut state.rows[r];
                row.generation += 1;
                if !self.is(Broken::AttemptsNotCounted) {
                    row.attempts += 1;
                }
                if row.status == Status::Running && !self.is(Broken::CrashesNotCounted) {
                    row.crashes += 1;
                }
                row.status = Status::Running;
                row.leased = true;
                let spent = row.crashes >= MAX_ATTEMPTS;
                row.starts += u8::from(!spent);
                let (generation, attempts) = (row.generation, row.attempts);
                state.workers[w] =
                    Worker::Making { request: r, generation, attempts, spent, attach: false };
            }
            Attach(w, r) => {
                state.left.attachments -= 1;
                let row = &mut state.rows[r];
                row.generation += 1;
                row.status = Status::Running;
                row.leased = true;
                row.cancel = false;
                let (generation, attempts) = (row.generation, row.attempts);
                state.workers[w] =
                    Worker::Making { request: r, generation, attempts, spent: false, attach: true };
            }
            Upload(w) => {
                let Worker::Making { request, generation, attach, .. } = state.workers[w] else {
                    return;
                };
                state.objects.insert((request, self.key(generation)), generation);
                state.workers[w] = Worker::Made { request, generation, attach };
            }
            Beat(w) => {
                let Worker::Making { request, generation, .. } = state.workers[w] else { return };
                let cancelled =
                    state.held(request, generation, false).is_some_and(|row| row.cancel);
                state.workers[w] = match cancelled {
                    true => Worker::Refused { request, generation, removed: true },
                    false => Worker::Idle,
                };
            }
            Renew(w) => {
                let Worker::Making { request, generation, .. } = state.workers[w] else { return };
                if let Some(row) = state.held(request, generation, false) {
                    row.leased = true;
                }
            }
            Publish(w) => state.workers[w] = self.publish(state, w),
            PublishUnanswered(w) => {
                state.left.faults -= 1;
                self.publish(state, w);
            }
            RemoveOwn(w) => {
                let Worker::Refused { request, generation, .. } = state.workers[w] else { return };
                state.objects.remove(&(request, self.key(generation)));
                state.workers[w] = Worker::Refused { request, generation, removed: true };
            }
            EndCancelled(w) => {
                let Worker::Refused { request, generation, .. } = state.workers[w] else { return };
                state.end(request, generation, Status::Cancelled, false);
                state.workers[w] = Worker::Idle;
            }
            GiveUp(w) => self.end(state, w, Status::Failed, 0),
            Fail(w) => {
                state.left.errors -= 1;
                self.end(state, w, Status::Failed, 0);
            }
            FailForNow(w) => {
                state.left.errors -= 1;
                self.end(state, w, Status::Pending, 0);
            }
            GiveBack(w) => {
                state.left.stops -= 1;
                self.end(state, w, Status::Pending, 1);
            }
            Tell(w) => {
                let Worker::Telling { request, generation } = state.workers[w] else { return };
                let row = &mut state.rows[request];
                if row.generation == generation && row.status == Status::Finished {
                    row.tell();
                }
                state.workers[w] = Worker::Idle;
            }
            ClaimNotice(w, r, n) => {
                let notice = &mut state.rows[r].notices[n];
                notice.generation += 1;
                notice.leased = true;
                let generation = notice.generation;
                state.workers[w] =
                    Worker::Mailing { request: r, notice: n, generation, accepted: false };
            }
            Mail(w) | MailRefused(w) | Record(w) => self.mail(state, w, step),
            Die(w) => {
                state.left.faults -= 1;
                state.workers[w] = Worker::Idle;
            }
            LeaseEnds(r) => {
                state.left.faults -= u8::from(state.is_held(r));
                state.rows[r].leased = false;
            }
            NoticeLeaseEnds(r, n) => {
                state.left.faults -= u8::from(state.is_being_mailed(r, n));
                state.rows[r].notices[n].leased = false;
            }
            _ => self.look_after(state, step),
        }
    }

    /// What the worker does next.
    fn publish(&self, state: &mut State, w: usize) -> Worker {
        let Worker::Made { request, generation, attach } = state.workers[w] else {
            return state.workers[w];
        };
        let key = self.key(generation);
        let tells = !attach && !self.is(Broken::NoticeAfterPublishing);
        let unchecked = self.is(Broken::PublishWithoutGeneration);
        let blind = self.is(Broken::CancelNotSeenAtPublish);
        if let Some(row) = state.held(request, generation, unchecked)
            && (!row.cancel || blind)
        {
            row.status = Status::Finished;
            row.leased = false;
            row.key = Some(key);
            row.over = false;
            row.attached = attach;
            if tells {
                row.tell();
            }
            return match attach || tells {
                true => Worker::Idle,
                false => Worker::Telling { request, generation },
            };
        }
        let row = &state.rows[request];
        let own = row.generation == generation && row.status == Status::Finished;
        match own && !self.is(Broken::LostAnswerTakenForRefusal) {
            true => Worker::Idle,
            // What was attached in vain is left to the sweep.
            false if attach => Worker::Idle,
            false => Worker::Refused { request, generation, removed: false },
        }
    }

    fn end(&self, state: &mut State, w: usize, status: Status, attempts_back: u8) {
        let Worker::Making { request, generation, .. } = state.workers[w] else { return };
        state.workers[w] = Worker::Idle;
        let unchecked = self.is(Broken::EndWithoutGeneration);
        if let Some(row) = state.held(request, generation, unchecked) {
            row.attempts = row.attempts.saturating_sub(attempts_back);
        }
        state.end(request, generation, status, unchecked);
    }

    fn mail(&self, state: &mut State, w: usize, step: Step) {
        let Worker::Mailing { request, notice, generation, .. } = state.workers[w] else { return };
        // Notices go with the row.
        let row = state.rows[request].notices.get_mut(notice);
        let of = row.as_ref().map(|notice| notice.of);
        let held = row.filter(|notice| notice.generation == generation && !notice.sent);
        state.workers[w] = Worker::Idle;
        match step {
            Step::Mail(_) => {
                let Some(of) = of else { return };
                let id = if self.is(Broken::MessageIdForEachTry) { generation } else { 0 };
                *state.mails.entry((request, of, id)).or_default() += 1;
                state.workers[w] = Worker::Mailing { request, notice, generation, accepted: true };
            }
            Step::MailRefused(_) => {
                state.left.errors -= 1;
                if let Some(notice) = held {
                    notice.leased = false;
                }
            }
            _ => {
                if let Some(notice) = held {
                    (notice.sent, notice.leased) = (true, false);
                }
            }
        }
    }

    /// People, time and the cleaner.
    fn look_after(&self, state: &mut State, step: Step) {
        use Step::*;
        match step {
            Cancel(r) => {
                state.left.cancels -= 1;
                let row = &mut state.rows[r];
                row.cancel = true;
                if row.status == Status::Pending {
                    row.status = Status::Cancelled;
                }
            }
            Retry(r) => {
                state.left.retries -= 1;
                let row = &mut state.rows[r];
                row.status = Status::Pending;
                (row.attempts, row.crashes, row.starts) = (0, 0, 0);
                (row.cancel, row.over) = (false, false);
            }
            Extend(r) => {
                state.left.extensions -= 1;
                state.rows[r].over = false;
            }
            TimePasses(r) => state.rows[r].over = true,
            Delete(r) => {
                state.left.deletions -= 1;
                let row = &mut state.rows[r];
                (row.status, row.over) = (Status::Expired, true);
                state.cleaner = Cleaner::Marked(r, row.key);
            }
            List(r) => state.cleaner = Cleaner::Listed(r),
            Mark => {
                let Cleaner::Listed(r) = state.cleaner else { return };
                let row = &mut state.rows[r];
                let removable = !matches!(row.status, Status::Running | Status::Gone)
                    && (row.over || self.is(Broken::MarkWithoutSecondLook));
                state.cleaner = if self.is(Broken::RemovalWithoutMark) {
                    Cleaner::Marked(r, row.key)
                } else if removable {
                    row.status = Status::Expired;
                    Cleaner::Marked(r, row.key)
                } else {
                    Cleaner::Idle
                };
            }
            RemoveObject => {
                let Cleaner::Marked(r, key) = state.cleaner else { return };
                if let Some(key) = key {
                    state.objects.remove(&(r, key));
                }
                state.cleaner = Cleaner::Emptied(r);
            }
            RemoveRow => {
                let Cleaner::Emptied(r) = state.cleaner else { return };
                let row = &mut state.rows[r];
                if row.status == Status::Expired || self.is(Broken::RemovalWithoutMark) {
                    *row = Row { generation: row.generation, status: Status::Gone, ..Row::new() };
                }
                state.cleaner = Cleaner::Idle;
            }
            Look(r, key) => state.cleaner = Cleaner::Unwanted(r, key),
            Sweep => {
                let Cleaner::Unwanted(r, key) = state.cleaner else { return };
                state.objects.remove(&(r, key));
                state.cleaner = Cleaner::Idle;
            }
            CleanerDies => {
                state.left.faults -= 1;
                state.cleaner = Cleaner::Idle;
            }
            _ => unreachable!("{step:?} is a worker's"),
        }
    }
}
