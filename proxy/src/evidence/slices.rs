//! Which endpoint of stable belongs to which slice. Pure.

use contract::evidence::SLICES;
use std::cmp::Reverse;

/// What an endpoint of stable had before the table changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Had {
    /// Its slice, if it has ever had one.
    pub slice: Option<u8>,
    /// Whether it was in the last table.
    pub stayed: bool,
}

/// A slice for each endpoint, in the order of the table: in a first table its place modulo [`SLICES`]. Later each keeps
/// its own, those that stayed before those that come back, unless a slice would then have more than its part: two
/// endpoints in one slice while another is empty would hide how they differ. One endpoint cannot be divided.
pub fn assign(had: &[Had]) -> Vec<Option<u8>> {
    let mut slices = vec![None; had.len()];
    if had.len() < 2 {
        return slices;
    }
    let most = had.len().div_ceil(SLICES);
    let mut sizes = [0; SLICES];
    let mut order: Vec<usize> = (0..had.len()).collect();
    order.sort_by_key(|i| Reverse(had[*i].stayed));
    for i in order {
        let kept = had[i].slice.map(usize::from);
        if let Some(slice) = kept.filter(|s| sizes.get(*s).is_some_and(|n| *n < most)) {
            sizes[slice] += 1;
            slices[i] = Some(slice as u8);
        }
    }
    for slice in slices.iter_mut().filter(|s| s.is_none()) {
        let least = (0..SLICES).min_by_key(|s| sizes[*s]).unwrap_or_default();
        sizes[least] += 1;
        *slice = Some(least as u8);
    }
    slices
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stayed(slice: u8) -> Had {
        Had {
            slice: Some(slice),
            stayed: true,
        }
    }

    const NEW: Had = Had {
        slice: None,
        stayed: false,
    };

    fn assigned(had: &[Had]) -> Vec<u8> {
        assign(had).into_iter().map(Option::unwrap).collect()
    }

    #[test]
    fn a_first_table_is_divided_by_place() {
        assert_eq!(assigned(&[NEW; 3]), [0, 1, 2]);
        assert_eq!(assigned(&[NEW; 18]), (0..18).map(|i| i % 8).collect::<Vec<u8>>());
        assert_eq!(assign(&[stayed(3)]), [None]);
        assert_eq!(assign(&[]), []);
    }

    #[test]
    fn who_stays_keeps_its_slice_and_a_new_one_takes_the_free_one() {
        assert_eq!(assigned(&[NEW, stayed(0), stayed(2)]), [1, 0, 2]);
        let back = Had {
            slice: Some(1),
            stayed: false,
        };
        assert_eq!(assigned(&[back, stayed(0), stayed(2)]), [1, 0, 2]);
        assert_eq!(assigned(&[back, stayed(1)]), [0, 1], "its place is taken");
    }

    #[test]
    fn two_endpoints_never_share_a_slice_while_another_is_empty() {
        assert_eq!(assigned(&[stayed(4), stayed(4)]), [4, 0]);
        let many: Vec<Had> = [vec![stayed(7); 9], vec![NEW; 7]].concat();
        let slices = assigned(&many);
        for slice in 0..8 {
            assert_eq!(slices.iter().filter(|s| **s == slice).count(), 2, "{slices:?}");
        }
    }
}
