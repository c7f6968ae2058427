//! What would have been refused under other limits, or had use grown more. Pure.

use highwater_ipc::limits::Resource;

use super::marks::Hour;
use super::measure::Run;

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WhatIf {
    /// Other limits.
    pub limits: Vec<(Resource, u64)>,
    /// What is used above the lowest of the span, times this; and growth times this. `None` = as it was.
    pub growth: Option<f64>,
}

/// The most a growth factor may be.
pub const MOST_GROWTH: f64 = 1_000.0;

impl WhatIf {
    /// Nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.limits.is_empty() && self.growth.is_none()
    }

    /// The limit of a resource that is asked for; the last one said of it.
    pub fn limit(&self, resource: Resource) -> Option<u64> {
        self.limits.iter().rfind(|(of, _)| *of == resource).map(|(_, limit)| *limit)
    }

    /// Whether anything is asked of this resource.
    pub fn is_about(&self, resource: Resource) -> bool {
        self.growth.is_some() || self.limit(resource).is_some()
    }

    /// What would be used where `used` was: the factor is of what lies above the lowest of the span, which is what a service
    /// takes at rest.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates; a factor has few digits"
    )]
    pub fn used(&self, used: u64, lowest: u64) -> u64 {
        let Some(growth) = self.growth else { return used };
        let above = used.saturating_sub(lowest);
        used.min(lowest).saturating_add((above as f64 * growth).ceil() as u64)
    }
}

/// The first hour whose highest leaves no room for one more object of `size` (in the resource's own unit): from then on the
/// next one is refused. As the kernel counts, an array is refused whole where its semaphores do not fit, and a segment where
/// its pages do not.
pub fn refused_in(runs: impl Iterator<Item = Run>, limit: u64, size: u64, scale: impl Fn(u64) -> u64) -> Option<Hour> {
    let mut runs = runs;
    runs.find_map(|run| {
        let is_full = |used: u64| scale(used).checked_add(size).is_none_or(|sum| sum > limit);
        run.most.is_some_and(is_full).then_some(run.from)
    })
}

/// What the next object takes of a resource, as those that are there do on average, rounded up: semaphores of an array,
/// pages of a segment; else one.
pub fn usual_size(resource: Resource, used: Option<u64>, objects: Option<u64>) -> u64 {
    match (resource, used, objects) {
        (Resource::Semmns | Resource::Shmall, Some(used), Some(objects)) if objects > 0 => {
            used.div_ceil(objects).max(1)
        }
        _ => 1,
    }
}

/// Which of SEMMNI and SEMMNS stops a host from making arrays of the usual size, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ceiling {
    /// The one that binds.
    pub binds: Resource,
    /// So many arrays can be made in all.
    pub arrays: u64,
    /// With so many semaphores.
    pub semaphores: u64,
}

/// The effective ceiling; `array` is how many semaphores an array has.
pub fn ceiling(semmni: u64, semmns: u64, array: u64) -> Ceiling {
    let by_semaphores = semmns / array.max(1);
    let binds = if semmni <= by_semaphores { Resource::Semmni } else { Resource::Semmns };
    let arrays = semmni.min(by_semaphores);
    Ceiling { binds, arrays, semaphores: arrays.saturating_mul(array.max(1)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::capacity::marks::Mark;
    use crate::query::capacity::measure::runs;

    fn refused(mosts: &[u64], limit: u64, size: u64) -> Option<Hour> {
        let marks: Vec<Mark> =
            (0..).zip(mosts).map(|(hour, most)| Mark { hour, last: Some(1), most: Some(*most) }).collect();
        refused_in(runs(&marks, (0, 99)), limit, size, |used| used)
    }

    #[test]
    fn the_first_hour_that_leaves_no_room_for_the_next_is_told() {
        assert_eq!(refused(&[3, 9, 10, 11], 10, 1), Some(2), "ten are there: the eleventh is refused");
        assert_eq!(refused(&[3, 9, 9], 10, 1), None);
        assert_eq!(refused(&[3], 0, 1), Some(0), "nothing can be made");
        assert_eq!(refused(&[0, 170, 185], 200, 17), Some(2), "an array of 17 does not fit behind 185");
        assert_eq!(refused(&[183], 200, 17), None);
        assert_eq!(refused(&[u64::MAX], u64::MAX, 1), Some(0));
    }

    #[test]
    fn the_factor_is_of_what_lies_above_the_lowest() {
        let what_if = WhatIf { growth: Some(1.5), ..WhatIf::default() };
        assert_eq!([10, 20, 5].map(|used| what_if.used(used, 10)), [10, 25, 5]);
        assert_eq!(what_if.used(u64::MAX, 0), u64::MAX);
        assert_eq!(WhatIf::default().used(20, 10), 20);
    }

    #[test]
    fn arrays_of_the_usual_size_run_out_at_one_limit_or_the_other() {
        assert_eq!(usual_size(Resource::Semmns, Some(19_969), Some(128)), 157);
        assert_eq!(usual_size(Resource::Semmns, Some(0), Some(3)), 1);
        assert_eq!(
            [usual_size(Resource::Semmns, Some(9), Some(0)), usual_size(Resource::Semmni, Some(9), Some(3))],
            [1, 1]
        );
        // 128 arrays of 156 are 19,968 semaphores: the 32,000 are never reached.
        let oracle = ceiling(128, 32_000, 156);
        assert_eq!((oracle.binds, oracle.arrays, oracle.semaphores), (Resource::Semmni, 128, 19_968));
        let wide = ceiling(256, 32_000, 156);
        assert_eq!((wide.binds, wide.arrays), (Resource::Semmns, 205));
    }
}
