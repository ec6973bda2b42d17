//! What the RFC says of requests that nginx answers otherwise.

use super::requests::{Case, Field::*, Kind::*};

/// Says how the RFC reads what nginx reads otherwise.
pub struct Reading {
    pub why: &'static str,
    /// The request as nginx has to be asked, if there is anything of the kind in it.
    pub reworded: fn(&Case) -> Option<Case>,
}

pub const READINGS: &[Reading] = &[
    Reading {
        why: "13.1.3: beside If-None-Match, If-Modified-Since is ignored; nginx wants both to say \
              that nothing changed",
        reworded: |case| case.has(IfNoneMatch, |_| true).then(|| case.without(IfModifiedSince))?,
    },
    Reading {
        why: "13.1.4: beside If-Match, If-Unmodified-Since is ignored; nginx wants both to hold",
        reworded: |case| case.has(IfMatch, |_| true).then(|| case.without(IfUnmodifiedSince))?,
    },
    Reading {
        why: "13.1.3: what is no date is ignored; nginx looks neither at weekday and zone nor at \
              what follows",
        reworded: |case| {
            case.has(IfModifiedSince, |kind| *kind == Malformed)
                .then(|| case.without(IfModifiedSince))?
        },
    },
    Reading {
        why: "13.1.4: what is no date is ignored; nginx fails",
        reworded: |case| {
            case.has(IfUnmodifiedSince, |kind| *kind == Malformed)
                .then(|| case.without(IfUnmodifiedSince))?
        },
    },
    Reading {
        why: "13.1.5: what is no date is not that of the file, so all of it is sent; nginx reads it",
        reworded: |case| {
            let malformed = case.has(IfRange, |kind| *kind == Malformed);
            malformed.then(|| case.without(Range))?
        },
    },
    Reading {
        why: "5.6.7: a year of two digits is at most 50 years ahead; from 70 on, nginx takes it for \
              one of the last century",
        reworded: |case| {
            case.with(
                |_, kind| if let TwoDigits(full) = kind { Some((*full).into()) } else { None },
            )
        },
    },
    Reading {
        why: "5.6.7: a minute may have a second 60; nginx takes that for no date",
        reworded: |case| {
            case.with(|_, kind| if let Leap(before) = kind { Some((*before).into()) } else { None })
        },
    },
    Reading {
        why: "8.8.3: what is not in quotes of its own is no tag; nginx finds ours behind any comma",
        reworded: |case| {
            case.with(|field, kind| {
                let of_tags = matches!(field, IfMatch | IfNoneMatch) && *kind == Malformed;
                of_tags.then(|| "\"other\"".into())
            })
        },
    },
    Reading {
        why: "5.3: a list may stand on several lines; nginx refuses that",
        reworded: |case| {
            let joined = case.joined(IfMatch).unwrap_or_else(|| case.clone());
            joined.joined(IfNoneMatch).or_else(|| case.joined(IfMatch))
        },
    },
    Reading {
        why: "13.1.3, 13.1.4: two dates are no date, and ignored; nginx refuses that",
        reworded: |case| {
            let mut left = None;
            for field in [IfModifiedSince, IfUnmodifiedSince] {
                let case = left.as_ref().unwrap_or(case);
                if case.twice(field) {
                    left = case.without(field);
                }
            }
            left
        },
    },
    Reading {
        why: "13.1.5: two validators are none, so all of the file is sent; nginx refuses that",
        reworded: |case| {
            let whole = case.twice(IfRange).then(|| case.without(IfRange))??;
            Some(whole.without(Range).unwrap_or(whole))
        },
    },
    Reading {
        why: "14.2: ranges are for GET; nginx looks at them for HEAD too",
        reworded: |case| case.head.then(|| case.without(Range))?,
    },
    Reading {
        why: "14.2: a Range on two lines is malformed and may be ignored; nginx takes the first",
        reworded: |case| case.twice(Range).then(|| case.without(Range))?,
    },
    Reading {
        why: "14.2: Range may be ignored; we do that when there are several, which nobody resumes \
              with, and nginx sends parts, or 416 when it cannot read one of them",
        reworded: |case| case.has(Range, |kind| *kind == Several).then(|| case.without(Range))?,
    },
    Reading {
        why: "14.2: a malformed Range may be ignored; nginx answers 416, or takes blanks and what \
              follows a number for nothing",
        reworded: |case| case.has(Range, |kind| *kind == Malformed).then(|| case.without(Range))?,
    },
    Reading {
        why: "5.6.1.2: empty elements of a list are ignored; nginx answers 416",
        reworded: |case| {
            case.with(|_, kind| if let Gaps(without) = kind { Some(without.clone()) } else { None })
        },
    },
    Reading {
        why: "14.1.2: what lies beyond the end is cut off there, however far it is; nginx answers \
              416 when 64 bits do not hold it",
        reworded: |case| {
            case.with(|_, kind| if let Huge(less) = kind { Some(less.clone()) } else { None })
        },
    },
    Reading {
        why: "14.1.2: nothing has no first byte, so 416; nginx answers 416 only from the second on",
        reworded: |case| {
            let from_first = case.range_of_nothing()?.starts_with("bytes=0");
            from_first.then(|| case.with(|field, _| (field == Range).then(|| "bytes=1-".into())))?
        },
    },
    Reading {
        why: "14.1.2: an empty suffix is not satisfiable, of nothing neither; nginx sends all",
        reworded: |case| {
            let empty = case.range_of_nothing()? == "bytes=-0";
            empty.then(|| case.with(|field, _| (field == Range).then(|| "bytes=1-".into())))?
        },
    },
];
