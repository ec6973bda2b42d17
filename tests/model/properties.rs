//! What holds in every state, and what is possible at all.

use stateright::Property;

use crate::protocol::{MAX_ATTEMPTS, Protocol, Row, State, Status, Worker};

pub const FILE_IS_THERE: &str = "a visible file has its object";
pub const FILE_IS_ITS_OWN: &str = "a visible file is what its generation wrote";
pub const CANCELLED: &str = "what was cancelled does not become visible";
pub const OWN_END: &str = "nobody ends another's attempt";
pub const OBJECT_STAYS: &str = "nobody takes an object that is about to be published";
pub const REASON: &str = "nothing is begun anew without a reason";
pub const BOUNDED: &str = "attempts are bounded";
pub const MAILS: &str = "an end is mailed once, and once more a fault at most";
pub const MESSAGE_ID: &str = "an end has one Message-ID";
pub const IN_TIME: &str = "nothing is removed before its time";
pub const FORGOTTEN: &str = "where nothing is left to do, every request has ended and is told";
pub const LEFT_BEHIND: &str = "when all time has passed, no object and no row is left";

fn visible(state: &State) -> impl Iterator<Item = (usize, &Row)> {
    let visible = |(_, row): &(usize, &Row)| row.status == Status::Finished && !row.over;
    state.rows.iter().enumerate().filter(visible)
}

fn object_of(state: &State, request: usize) -> Option<u8> {
    state.objects.get(&(request, state.rows[request].key?)).copied()
}

/// Requests and generations at which somebody works, and whether the object is stored.
fn at_work(state: &State) -> impl Iterator<Item = (usize, u8, bool)> {
    state.workers.iter().filter_map(|worker| match *worker {
        Worker::Making { request, generation, .. } => Some((request, generation, false)),
        Worker::Made { request, generation, .. } => Some((request, generation, true)),
        _ => None,
    })
}

fn mails_about(state: &State, request: usize, generation: u8) -> impl Iterator<Item = u8> {
    let ids = state.mails.range((request, generation, 0)..=(request, generation, u8::MAX));
    ids.map(|(_, count)| *count)
}

fn faults(model: &Protocol, state: &State) -> u8 {
    model.budget.faults - state.left.faults
}

pub fn all() -> Vec<Property<Protocol>> {
    vec![
        Property::always(FILE_IS_THERE, |_, state: &State| {
            visible(state).all(|(r, _)| object_of(state, r).is_some())
        }),
        Property::always(FILE_IS_ITS_OWN, |_, state: &State| {
            visible(state).all(|(r, row)| object_of(state, r).is_none_or(|by| by == row.generation))
        }),
        Property::always(CANCELLED, |_, state: &State| visible(state).all(|(_, row)| !row.cancel)),
        Property::always(OWN_END, |_, state: &State| {
            at_work(state).all(|(r, generation, _)| {
                let row = &state.rows[r];
                let ended = [Status::Pending, Status::Failed, Status::Cancelled];
                row.generation != generation || !ended.contains(&row.status)
            })
        }),
        Property::always(OBJECT_STAYS, |model, state: &State| {
            at_work(state).filter(|(_, _, stored)| *stored).all(|(r, generation, _)| {
                let row = &state.rows[r];
                let held = row.status == Status::Running && row.generation == generation;
                !held || state.objects.contains_key(&(r, model.key(generation)))
            })
        }),
        Property::always(REASON, |model, state: &State| {
            let begun: usize = state.rows.iter().map(|row| usize::from(row.generation)).sum();
            let reasons = model.budget.reasons() - state.left.reasons();
            begun <= model.requests + usize::from(reasons)
        }),
        Property::always(BOUNDED, |model, state: &State| {
            // Errors end it at the last attempt, crashes at as many; what is given back is free.
            let stops = model.budget.stops - state.left.stops;
            state.rows.iter().all(|row| row.starts < 2 * MAX_ATTEMPTS + stops)
        }),
        Property::always(MAILS, |model, state: &State| {
            state.mails.keys().all(|&(request, generation, _)| {
                let mails: u8 = mails_about(state, request, generation).sum();
                mails <= 1 + faults(model, state)
            })
        }),
        Property::always(MESSAGE_ID, |_, state: &State| {
            state.mails.keys().all(|&(request, generation, _)| {
                mails_about(state, request, generation).count() == 1
            })
        }),
        Property::always(IN_TIME, |_, state: &State| {
            state.rows.iter().all(|row| row.status != Status::Expired || row.over)
        }),
        Property::always(FORGOTTEN, |model, state: &State| {
            let told = |(r, row): (usize, &Row)| match row.status {
                Status::Pending | Status::Running => false,
                Status::Finished if row.attached => true,
                Status::Finished | Status::Failed => {
                    mails_about(state, r, row.generation).next().is_some()
                }
                Status::Cancelled | Status::Expired | Status::Gone => true,
            };
            // Looked at in this order as few states have an end that nobody was told of.
            state.rows.iter().enumerate().all(told)
                || model.steps(state).into_iter().any(|step| step.is_making())
        }),
        Property::always(LEFT_BEHIND, |model, state: &State| {
            let gone = state.rows.iter().all(|row| row.status == Status::Gone);
            (gone && state.objects.is_empty())
                || model.steps(state).into_iter().any(|step| step.is_work())
        }),
        Property::sometimes("a file is made by a second worker", |_, state: &State| {
            visible(state).any(|(_, row)| row.crashes > 0)
        }),
        Property::sometimes(
            "a late worker stores an object beside the one that counts",
            |_, state| {
                visible(state)
                    .any(|(r, _)| state.objects.keys().filter(|(of, _)| *of == r).count() > 1)
            },
        ),
        Property::sometimes("a request fails as its workers die of it", |_, state: &State| {
            state.rows.iter().any(|row| row.status == Status::Failed && row.crashes >= MAX_ATTEMPTS)
        }),
        Property::sometimes("a mail comes twice", |_, state: &State| {
            state.mails.values().any(|count| *count > 1)
        }),
        Property::sometimes("everything is over", |_, state: &State| {
            state.rows.iter().all(|row| row.status == Status::Gone)
        }),
    ]
}
