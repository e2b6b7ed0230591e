//! Libraries made up at random against a model: thousands of reloads, none wrong.
//!
//! `RELOAD_TEST_SEED=N` tries the library of one seed alone, `FIRST..LAST` other seeds than usual; a failure prints the
//! seed, both sources and the receipt.

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
    let chosen = env::var("RELOAD_TEST_SEED").ok();
    let number = |text: &str| text.parse::<u64>().expect("a number");
    let seeds = match chosen.as_ref().map(|chosen| chosen.split_once("..").ok_or_else(|| number(chosen))) {
        None => 1..LIBRARIES + 1,
        Some(Ok((first, last))) => number(first)..number(last),
        Some(Err(seed)) => seed..seed + 1,
    };
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let (mut tally, mut differences) = (Tally::default(), Vec::new());
        loop {
            let start = next.fetch_add(TOGETHER, Ordering::Relaxed);
            if start >= seeds.end {
                return (tally, differences);
            }
            tally += random::run(start..seeds.end.min(start + TOGETHER), &mut differences);
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
    if chosen.is_some() {
        return;
    }
    assert!(sum.pairs >= 2000, "{sum:?}");
    // To refuse is no way out: a doubt must be rare.
    assert!(sum.doubted * 50 < sum.pairs, "more than 2 % refused: {sum:?}");
    assert!(sum.unpatchable * 20 < sum.pairs, "more than 5 % with functions that keep their old code: {sum:?}");
    assert!(sum.reloaded * 10 > sum.pairs * 7, "{sum:?}");
}
