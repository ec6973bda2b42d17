//! The protocol of claim, lease, generation, publish, notice and cleaner, checked in every order
//! that its steps can take (`docs/src/explanation/protocol.md` tells it, `src/file_request` does it);
//! and so the protocol of what is kept in memory of tokens and links.
//!
//! A rule that is left out must be found out: otherwise the model says nothing.

#![allow(missing_docs, unreachable_pub, reason = "tests are their own documentation")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod memory;
mod properties;
mod protocol;

use memory::{Memory, REVOKED};
use properties::*;
use protocol::{Broken, Budget, Protocol};
use stateright::{Checker, Expectation, HasDiscoveries, Model};

/// Two workers at one request: they die and pause, people cancel and try again.
fn making() -> Protocol {
    let budget = Budget { faults: 2, errors: 1, cancels: 1, retries: 1, ..Budget::default() };
    Protocol { requests: 1, workers: 2, budget, broken: None }
}

/// One worker that fails and ends again and again.
fn failing() -> Protocol {
    let budget = Budget { faults: 3, errors: 3, stops: 1, ..Budget::default() };
    Protocol { requests: 1, workers: 1, budget, broken: None }
}

/// Files from outside, deletions and extensions come in between.
fn disturbing() -> Protocol {
    let budget = Budget {
        faults: 1,
        cancels: 1,
        deletions: 1,
        extensions: 1,
        attachments: 1,
        ..Budget::default()
    };
    Protocol { requests: 1, workers: 2, budget, broken: None }
}

/// Two workers at two requests.
fn sharing() -> Protocol {
    let budget = Budget { faults: 1, cancels: 1, ..Budget::default() };
    Protocol { requests: 2, workers: 2, budget, broken: None }
}

fn check(protocol: Protocol) -> impl Checker<Protocol> {
    protocol.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join()
}

fn holds(protocol: Protocol) {
    let checker = check(protocol);
    for property in checker.model().properties() {
        if property.expectation == Expectation::Always {
            checker.assert_no_discovery(property.name);
        }
    }
}

#[test]
fn two_workers_at_one_request() {
    // With what is possible at all: a model in which nothing happens would keep every promise.
    check(making()).assert_properties();
}

#[test]
fn a_worker_that_fails_again_and_again() {
    holds(failing());
}

#[test]
fn with_files_from_outside_deletions_and_extensions() {
    holds(disturbing());
}

#[test]
fn two_workers_at_two_requests() {
    holds(sharing());
}

/// A rule that can be left out, the world in which that shows, and what is no longer true.
type Lacking = (Broken, fn() -> Protocol, &'static str);

const BROKEN: [Lacking; 16] = [
    (Broken::LeaseNotCompared, making, REASON),
    (Broken::AttemptsNotCounted, failing, BOUNDED),
    (Broken::CrashesNotCounted, failing, BOUNDED),
    (Broken::SilentWorkersForgotten, making, FORGOTTEN),
    (Broken::KeyWithoutGeneration, making, FILE_IS_ITS_OWN),
    (Broken::PublishWithoutGeneration, making, FILE_IS_ITS_OWN),
    (Broken::EndWithoutGeneration, making, OWN_END),
    (Broken::CancelNotSeenAtPublish, making, CANCELLED),
    (Broken::LostAnswerTakenForRefusal, making, FILE_IS_THERE),
    (Broken::NoticeAfterPublishing, making, FORGOTTEN),
    (Broken::NoticeClaimWithoutLease, making, MAILS),
    (Broken::MessageIdForEachTry, making, MESSAGE_ID),
    (Broken::CleanerIgnoresLeases, making, OBJECT_STAYS),
    (Broken::RemovalWithoutMark, disturbing, FILE_IS_THERE),
    (Broken::MarkWithoutSecondLook, disturbing, IN_TIME),
    (Broken::OrphansNotSwept, making, LEFT_BEHIND),
];

#[test]
fn every_rule_that_is_left_out_is_found_out() {
    for (broken, world, property) in BROKEN {
        let protocol = Protocol { broken: Some(broken), ..world() };
        let until = HasDiscoveries::AnyOf([property].into());
        let checker = protocol.checker().finish_when(until).spawn_bfs().join();
        let found = checker.discovery(property);
        assert!(found.is_some(), "{broken:?} does not show in: {property}");
    }
}

/// A connection goes deaf, and somebody else's words get in.
fn losing() -> Memory {
    Memory { faults: 2, pooled: false, broken: None }
}

/// A pooler shares the sessions.
fn pooled() -> Memory {
    Memory { faults: 3, pooled: true, broken: None }
}

#[test]
fn revoked_is_revoked() {
    losing().checker().spawn_bfs().join().assert_properties();
    let checker = pooled().checker().spawn_bfs().join();
    checker.assert_no_discovery(REVOKED);
    assert!(checker.discovery("memory is used").is_none(), "nobody hears anything there");
}

#[test]
fn every_rule_of_memory_that_is_left_out_is_found_out() {
    use memory::Broken::*;
    let lacking: [(_, fn() -> Memory); 9] = [
        (AnswersCount, losing),
        (AnswersCount, pooled),
        (ForeignCounts, losing),
        (ForeignCounts, pooled),
        (LateCounts, losing),
        (LockNotTaken, losing),
        (TooLittlePatience, losing),
        (TrustBeforeLock, losing),
        (GenerationNotCompared, losing),
    ];
    for (broken, world) in lacking {
        let memory = Memory { broken: Some(broken), ..world() };
        let until = HasDiscoveries::AnyOf([REVOKED].into());
        let checker = memory.checker().finish_when(until).spawn_bfs().join();
        assert!(checker.discovery(REVOKED).is_some(), "{broken:?} does not show");
    }
}
