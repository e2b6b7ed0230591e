//! Libraries made up at random against a model: thousands of reloads, none wrong.
//!
//! `RELOAD_TEST_SEED=N` tries the library of one seed alone; a failure prints the seed, both sources and the receipt.

use std::{
    env,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use reload_tests::random::{self, Tally};

/// Libraries that share one process.
const TOGETHER: u64 = 32;
const LIBRARIES: u64 = 704;
const AT_ONCE: usize = 2;

#[test]
fn random_libraries_match_the_model() {
    let mut sum = Tally::default();
    let mut differences = Vec::new();
    if let Ok(seed) = env::var("RELOAD_TEST_SEED") {
        let seed: u64 = seed.parse().expect("a number");
        sum = random::run(seed..seed + 1, &mut differences);
        assert!(differences.is_empty(), "{}", differences.join("\n"));
        return println!("{sum:?}");
    }
    let next = AtomicU64::new(1);
    let work = || {
        let (mut tally, mut differences) = (Tally::default(), Vec::new());
        loop {
            let start = next.fetch_add(TOGETHER, Ordering::Relaxed);
            if start > LIBRARIES {
                return (tally, differences);
            }
            tally += random::run(start..start + TOGETHER, &mut differences);
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let (tally, found) = worker.join().expect("the messages above say why");
            sum += tally;
            differences.extend(found);
        }
    });
    println!("{sum:?}");
    assert!(differences.is_empty(), "{} wrong:\n{}", differences.len(), differences.join("\n\n"));
    assert!(sum.pairs >= 2000, "{sum:?}");
    // To refuse is no way out: a doubt must be rare.
    assert!(sum.doubted * 50 < sum.pairs, "more than 2 % refused: {sum:?}");
    assert!(sum.unpatchable * 20 < sum.pairs, "more than 5 % with functions that keep their old code: {sum:?}");
    assert!(sum.reloaded * 10 > sum.pairs * 7, "{sum:?}");
}
