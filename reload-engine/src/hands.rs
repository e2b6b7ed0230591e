//! Who does work that can be divided: the caller alone, or all processors.
//!
//! Waking another thread takes tens of microseconds, and one that has run out of work goes on looking for more for a while, on
//! a processor that the target may want. Where there is little to do, nobody else is asked. The results are the same.

use rayon::prelude::*;

/// Who does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hands {
    /// The caller: no other thread is woken.
    One,
    All,
}

/// What both one thread and several can go through.
pub trait Items<T: Send>: IntoIterator<Item = T> + IntoParallelIterator<Item = T> {}

impl<T: Send, I: IntoIterator<Item = T> + IntoParallelIterator<Item = T>> Items<T> for I {}

/// So many functions, or symbols, are few.
pub const FEW: usize = 4096;
/// So many bytes of code or of debugging information are little.
const LITTLE: u64 = 1 << 20;

impl Hands {
    /// For a file with so many symbols and bytes of code.
    pub fn for_file(symbols: usize, code: u64) -> Hands {
        if symbols <= FEW && code <= LITTLE { Hands::One } else { Hands::All }
    }

    /// For so many bytes of debugging information.
    pub fn for_debugging(bytes: u64) -> Hands {
        if bytes <= LITTLE { Hands::One } else { Hands::All }
    }

    /// Has one of the threads that share the work do this: any other would wait for one of them at each step.
    pub fn run<R: Send>(self, work: impl FnOnce() -> R + Send) -> R {
        match self {
            Hands::One => work(),
            Hands::All => rayon::scope(|_| work()),
        }
    }

    /// Two things that do not depend on each other: `here` by this thread, `there` by another one where there are several. That
    /// must not wait for what others do with all hands, an initial value of a lock for example: they may be waiting for it.
    pub fn both<A, B: Send>(self, here: impl FnOnce() -> A, there: impl FnOnce() -> B + Send) -> (A, B) {
        match self {
            Hands::One => (here(), there()),
            Hands::All => {
                let mut other = None;
                let one = rayon::in_place_scope(|scope| {
                    scope.spawn(|_| other = Some(there()));
                    here()
                });
                // The scope has waited for it.
                (one, other.expect("it has been done"))
            }
        }
    }

    /// In the order of the items.
    pub fn map<T: Send, R: Send>(self, items: impl Items<T>, make: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
        self.map_with(items, || (), |(), item| make(item))
    }

    /// The same with something of each thread's own, which `begin` makes.
    pub fn map_with<T: Send, S, R: Send>(
        self,
        items: impl Items<T>,
        begin: impl Fn() -> S + Sync + Send,
        make: impl Fn(&mut S, T) -> R + Sync + Send,
    ) -> Vec<R> {
        match self {
            Hands::One => {
                let mut own = begin();
                items.into_iter().map(|item| make(&mut own, item)).collect()
            }
            Hands::All => items.into_par_iter().map_init(begin, make).collect(),
        }
    }

    pub fn filter_map<T: Send, R: Send>(
        self,
        items: impl Items<T>,
        make: impl Fn(T) -> Option<R> + Sync + Send,
    ) -> Vec<R> {
        match self {
            Hands::One => {
                let items = items.into_iter();
                let mut made = Vec::with_capacity(items.size_hint().0);
                made.extend(items.filter_map(make));
                made
            }
            Hands::All => items.into_par_iter().filter_map(make).collect(),
        }
    }

    /// Equal items are not told apart.
    pub fn sort<T: Ord + Send>(self, items: &mut [T]) {
        match self {
            Hands::One => items.sort_unstable(),
            Hands::All => items.par_sort_unstable(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FEW, Hands, LITTLE};

    #[test]
    fn the_result_is_the_same() {
        let numbers: Vec<u32> = (0..10_000).map(|number: u32| number.wrapping_mul(0x9E37_79B9)).collect();
        let check = |hands: Hands| {
            let mut sorted = hands.map(&numbers, |number| number ^ 5);
            hands.sort(&mut sorted);
            let odd = hands.filter_map(&numbers, |number| (number % 2 == 1).then_some(*number));
            let with = hands.map_with(0..100, || 7, |own, number| *own + number);
            (sorted, odd, with, hands.run(|| 3), hands.both(|| 1, || 'b'))
        };
        assert_eq!(check(Hands::One), check(Hands::All));
    }

    #[test]
    fn little_work_wakes_nobody() {
        assert_eq!(Hands::for_file(FEW, LITTLE), Hands::One);
        assert_eq!(Hands::for_file(FEW + 1, 0), Hands::All);
        assert_eq!(Hands::for_file(0, LITTLE + 1), Hands::All);
        let thread = std::thread::current().id();
        assert_eq!(Hands::One.run(|| std::thread::current().id()), thread);
        assert!(Hands::One.map(0..9, |_| std::thread::current().id()).iter().all(|id| *id == thread));
    }
}
