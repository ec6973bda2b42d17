//! What a process keeps in memory of tokens and links while somebody revokes one (`src/db/watch.rs`,
//! `src/db/ear.rs`). A step is a statement, an announcement, or that time passes.
//!
//! Taken for granted: the database delivers what it announces on a connection in order and without
//! gaps, until it delivers nothing more; and a server that does not notice that a client is gone does
//! not do so within [`TRUST`] (one that ends a connection says so).

use stateright::{Model, Property};

/// For how long memory is trusted after a word to oneself was said, in ticks.
const TRUST: u8 = 2;
/// How long who revoked waits for who does not let go: longer.
const PATIENCE: u8 = TRUST + 1;

pub const REVOKED: &str = "what was confirmed as revoked is not found good in memory";

/// A rule left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A lost notification: any answer of the server counts as hearing.
    AnswersCount,
    /// A foreign one: what somebody else said counts as one's own word.
    ForeignCounts,
    /// A late one: a word counts from when it was heard, not from when it was said.
    LateCounts,
    /// Who revoked waits for nobody.
    LockNotTaken,
    /// … or not long enough.
    TooLittlePatience,
    /// The lock stays with the process while it has not forgotten yet, and is taken after it trusts.
    TrustBeforeLock,
    /// What was read before is kept for what comes after.
    GenerationNotCompared,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Changer {
    Idle,
    /// It is revoked, and this many ticks were waited for the lock.
    Waiting(u8),
    /// It was confirmed.
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Announcement {
    Change,
    Word(u8),
    /// Of somebody else.
    Foreign,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ear {
    Closed,
    /// It said its first word.
    Opening,
    /// It was heard, or something changed: the lock is to be taken.
    Locking,
    Open,
}

/// What was read, under which generation, and whether the token was good.
type Knowledge = Option<(u8, bool)>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    revoked: bool,
    changer: Changer,
    /// Whether the process's session has the shared lock.
    lock: bool,
    /// Nothing that is announced from now on reaches the process.
    deaf: bool,
    /// On its way, in order.
    line: Vec<Announcement>,
    ear: Ear,
    /// The word that was said, and how long ago.
    said: Option<(u8, u8)>,
    /// How many ticks memory is trusted for.
    trusted: u8,
    generation: u8,
    reading: Knowledge,
    kept: Knowledge,
    words: u8,
    faults: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Revoke,
    TakeExclusive,
    GiveUpWaiting,
    Tick,
    Connect,
    Say,
    Hear,
    /// Only of [`Broken::AnswersCount`].
    Ask,
    TakeShared,
    Despair,
    Read,
    Keep,
    GoDeaf,
    SayForeign,
}

/// One process, one that revokes.
#[derive(Clone, Debug)]
pub struct Memory {
    pub faults: u8,
    /// Whether a pooler shares the sessions: nothing is ever heard.
    pub pooled: bool,
    pub broken: Option<Broken>,
}

impl Memory {
    fn is(&self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }

    fn patience(&self) -> u8 {
        if self.is(Broken::TooLittlePatience) { TRUST - 1 } else { PATIENCE }
    }
}

impl State {
    fn trusts(&self) -> bool {
        self.ear == Ear::Open && self.trusted > 0
    }

    /// Memory says that the token is good.
    fn finds_good(&self) -> bool {
        self.trusts() && self.kept == Some((self.generation, true))
    }

    fn announce(&mut self, one: Announcement) {
        if !self.deaf {
            self.line.push(one);
        }
    }

    fn heard(&mut self, age: u8) {
        self.trusted = TRUST.saturating_sub(age);
        self.said = None;
        if self.ear == Ear::Opening {
            self.ear = Ear::Locking;
        }
    }
}

impl Model for Memory {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            revoked: false,
            changer: Changer::Idle,
            lock: false,
            deaf: false,
            line: Vec::new(),
            ear: Ear::Closed,
            said: None,
            trusted: 0,
            generation: 0,
            reading: None,
            kept: None,
            words: 4,
            faults: self.faults,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        use Step::*;
        let mut may = |step: Step, condition: bool| {
            if condition {
                steps.push(step);
            }
        };
        may(Tick, true);
        may(Revoke, state.changer == Changer::Idle);
        if let Changer::Waiting(ticks) = state.changer {
            may(TakeExclusive, !state.lock || self.is(Broken::LockNotTaken));
            may(GiveUpWaiting, ticks >= self.patience());
        }
        may(Connect, state.ear == Ear::Closed && state.words > 0);
        let listens = matches!(state.ear, Ear::Opening | Ear::Open);
        may(Say, listens && state.said.is_none() && state.words > 0);
        may(Hear, listens && !state.line.is_empty());
        may(Ask, listens && self.is(Broken::AnswersCount));
        may(TakeShared, state.ear == Ear::Locking);
        may(Despair, listens && state.said.is_some_and(|(_, age)| age >= TRUST));
        may(
            Read,
            state.reading.is_none() && (state.trusts() || self.is(Broken::GenerationNotCompared)),
        );
        may(Keep, state.reading.is_some());
        may(GoDeaf, state.faults > 0 && !state.deaf && state.ear != Ear::Closed);
        may(SayForeign, state.faults > 0 && listens);
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        use Step::*;
        let mut state = last.clone();
        match step {
            Revoke => {
                state.revoked = true;
                state.changer = Changer::Waiting(0);
                state.announce(Announcement::Change);
            }
            TakeExclusive | GiveUpWaiting => state.changer = Changer::Done,
            Tick => {
                state.trusted = state.trusted.saturating_sub(1);
                state.said = state.said.map(|(word, age)| (word, (age + 1).min(TRUST)));
                if let Changer::Waiting(ticks) = &mut state.changer {
                    *ticks = (*ticks + 1).min(PATIENCE);
                }
            }
            Connect => (state.ear, state.deaf) = (Ear::Opening, self.pooled),
            Say => {
                state.said = Some((state.words, 0));
                state.announce(Announcement::Word(state.words));
                state.words -= 1;
            }
            Hear => match state.line.remove(0) {
                Announcement::Change if state.ear == Ear::Open => {
                    // Forgets, lets go of the lock, and begins anew.
                    (state.ear, state.said, state.lock) = (Ear::Locking, None, false);
                }
                Announcement::Word(word) => match state.said {
                    _ if self.is(Broken::LateCounts) => state.heard(0),
                    Some((said, age)) if said == word => state.heard(age),
                    _ => {}
                },
                Announcement::Foreign if self.is(Broken::ForeignCounts) => state.heard(0),
                Announcement::Foreign | Announcement::Change => {}
            },
            Ask => state.heard(0),
            TakeShared => {
                state.lock = !self.is(Broken::TrustBeforeLock);
                state.generation += u8::from(state.generation < 4);
                state.ear = Ear::Open;
            }
            Despair => {
                (state.ear, state.said, state.lock, state.deaf) = (Ear::Closed, None, false, false);
                state.line.clear();
            }
            Read => state.reading = Some((state.generation, !state.revoked)),
            Keep => {
                state.kept = state.reading.take();
                if self.is(Broken::GenerationNotCompared) {
                    state.kept = state.kept.map(|(_, good)| (state.generation, good));
                }
            }
            GoDeaf => (state.deaf, state.faults) = (true, state.faults - 1),
            SayForeign => {
                // Whoever shares the session lets it through.
                state.line.push(Announcement::Foreign);
                state.faults -= 1;
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(REVOKED, |_, state: &State| {
                state.changer != Changer::Done || !state.finds_good()
            }),
            Property::sometimes("memory is used", |_, state: &State| state.finds_good()),
            Property::sometimes("memory is used again after a revocation", |_, state: &State| {
                state.changer == Changer::Done
                    && state.trusts()
                    && state.kept == Some((state.generation, false))
            }),
            Property::sometimes("a revocation waits for its time only", |_, state: &State| {
                state.changer == Changer::Waiting(PATIENCE) && state.lock
            }),
        ]
    }
}
