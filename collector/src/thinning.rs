//! Which of many values to show, where only some fit. Pure.

/// Which of these to keep so that `most` are left, three at least: evenly, but the first, the last and the highest in any
/// case. Their places, in order.
pub fn kept(used: &[u64], most: usize) -> Vec<usize> {
    let most = most.max(3);
    if used.len() <= most {
        return (0..used.len()).collect();
    }
    let last = used.len().saturating_sub(1);
    let mut kept: Vec<usize> = (0..most).map(|number| number.saturating_mul(last) / (most - 1)).collect();
    let highest = used.iter().copied().max();
    if kept.iter().any(|at| used.get(*at).copied() == highest) {
        return kept;
    }
    let Some(highest) = used.iter().position(|used| Some(*used) == highest) else { return kept };
    // The nearest to it makes room, but for the ends.
    let between = kept.get_mut(1..most - 1).into_iter().flatten();
    if let Some(nearest) = between.min_by_key(|at| at.abs_diff(highest)) {
        *nearest = highest;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_samples_are_all_kept_and_of_many_the_first_the_last_and_the_highest() {
        for count in 0..3_u64 {
            let all: Vec<u64> = (0..count).collect();
            assert_eq!(kept(&all, 48), (0..all.len()).collect::<Vec<_>>());
        }
        for (count, highest, most) in
            [(49, 0, 48), (49, 48, 48), (100, 1, 48), (100, 98, 48), (1_000, 501, 8), (9, 4, 3), (4, 2, 0)]
        {
            let mut all = vec![1; count];
            all[highest] = 9;
            let kept = kept(&all, most);
            assert_eq!(kept.len(), most.max(3), "{count} {highest}");
            assert!(kept.is_sorted_by(|a, b| a < b), "{kept:?}");
            assert_eq!((kept.first(), kept.last()), (Some(&0), Some(&(count - 1))));
            assert!(kept.contains(&highest), "{kept:?}");
        }
    }

    #[test]
    fn what_is_kept_lies_evenly() {
        let all: Vec<u64> = (0..470).collect();
        let kept = kept(&all, 48);
        assert!(kept.windows(2).all(|pair| (9..=10).contains(&(pair[1] - pair[0]))), "{kept:?}");
    }
}
