//! The name that somebody may have meant.

/// The one of `names` that differs from `word` by the fewest slips of the pen (a letter too many, too
/// few, another one, two in each other's place); `None` when all of them differ by more than a few.
pub(crate) fn nearest<'n>(word: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let most = (word.chars().count() / 3).clamp(1, 3);
    names
        .map(|name| (slips(word, name), name))
        .filter(|(slips, _)| *slips <= most)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, name)| name)
}

/// `; did you mean NAME?`, or nothing.
pub(crate) fn did_you_mean<'n>(word: &str, names: impl Iterator<Item = &'n str>) -> String {
    nearest(word, names).map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}

/// How many slips lead from one word to the other (optimal string alignment).
fn slips(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=other.len()).collect()];
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let mut least =
                (rows[i][j] + usize::from(a != b)).min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn slips_of_the_pen_are_seen_through() {
        let names = ["ready", "failed", "subject", "workers"];
        let near = |word| nearest(word, names.into_iter());
        for (word, name) in
            [("raedy", "ready"), ("failde", "failed"), ("subjct", "subject"), ("worker", "workers")]
        {
            assert_eq!(near(word), Some(name));
        }
        for word in ["", "r", "smtp", "something"] {
            assert_eq!(near(word), None, "{word}");
        }
    }
}
