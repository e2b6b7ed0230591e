//! Finding one of many ascending addresses in constant time: what lies at, before and after an address is asked several
//! times for each reference of each function, and binary search over a large table misses the cache at every step.
//!
//! Buckets of equal width, about as many as there are addresses, each knowing how many addresses lie below it; within a
//! bucket, which holds a few, binary search decides.

/// Addresses, ascending, and the buckets over them.
#[derive(Debug, Default)]
pub struct Places {
    addresses: Vec<u64>,
    /// How many addresses lie below the start of each bucket; one more than there are buckets.
    below: Vec<u32>,
    /// Buckets are `1 << shift` wide, from the first address on.
    shift: u32,
}

impl Places {
    pub fn new(ascending: impl Iterator<Item = u64>) -> Places {
        let addresses: Vec<u64> = ascending.collect();
        let (Some(first), Some(last)) = (addresses.first(), addresses.last()) else { return Places::default() };
        let width = (last - first) / addresses.len() as u64;
        let shift = 64 - width.leading_zeros();
        let buckets = ((last - first) >> shift) as usize + 1;
        let mut below = Vec::with_capacity(buckets + 1);
        for (index, address) in addresses.iter().enumerate() {
            let bucket = ((address - first) >> shift) as usize;
            while below.len() <= bucket {
                below.push(index as u32);
            }
        }
        below.push(addresses.len() as u32);
        Places { addresses, below, shift }
    }

    /// How many addresses are lower than this one; so the index of the first that is not.
    pub fn below(&self, address: u64) -> usize {
        let Some(distance) = self.addresses.first().and_then(|first| address.checked_sub(*first)) else { return 0 };
        let bucket = (distance >> self.shift) as usize;
        let Some([start, end]) = self.below.get(bucket..).and_then(<[u32]>::first_chunk) else {
            return self.addresses.len();
        };
        let (start, end) = (*start as usize, *end as usize);
        start + self.addresses[start..end].partition_point(|known| *known < address)
    }

    /// How many addresses are this one or lower.
    pub fn up_to(&self, address: u64) -> usize {
        address.checked_add(1).map_or(self.addresses.len(), |next| self.below(next))
    }
}

#[cfg(test)]
mod tests {
    use super::Places;

    fn check(addresses: &[u64]) {
        let places = Places::new(addresses.iter().copied());
        let around = addresses.iter().flat_map(|at| [at.wrapping_sub(1), *at, at.wrapping_add(1)]);
        for address in around.chain([0, 1, 0x5555, u64::MAX]) {
            let below = addresses.iter().filter(|known| **known < address).count();
            let up_to = addresses.iter().filter(|known| **known <= address).count();
            assert_eq!(
                (places.below(address), places.up_to(address)),
                (below, up_to),
                "{address:#x} in {addresses:x?}"
            );
        }
    }

    #[test]
    fn places_are_found_as_by_counting() {
        check(&[]);
        check(&[7]);
        check(&[7, 7, 7]);
        check(&[0, 1, 2, 3, 4, 5, 6, 7]);
        check(&[0x1000, 0x1010, 0x1010, 0x1018, 0x2000, 0x7fff_0000]);
        check(&[0, u64::MAX]);
        // One far away: all others share a bucket.
        let mut crowded: Vec<u64> = (0..1000).map(|index| 0x40_0000 + index * index % 911).collect();
        crowded.sort_unstable();
        crowded.push(1 << 46);
        check(&crowded);
    }
}
