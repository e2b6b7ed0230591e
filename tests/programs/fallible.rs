//! A program whose panics are caught and whose backtraces name functions and lines.

use std::io::BufRead;

#[inline(never)]
fn divide(dividend: i64, divisor: i64) -> i64 {
    dividend / divisor
}

#[inline(never)]
fn answer(line: &str) -> i64 {
    let number: i64 = line.parse().unwrap_or(0);
    divide(100, number)
}

fn main() {
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let answer = std::panic::catch_unwind(|| answer(&line));
        println!(">{}", answer.map_or_else(|_| "panicked".to_owned(), |answer| answer.to_string()));
    }
}
