//! A library that keeps a regular expression.

use std::{cell::RefCell, sync::Mutex};

use regex::Regex;

static WORDS: Mutex<Option<Regex>> = Mutex::new(None);
thread_local! { static FOUND: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) }; }

#[unsafe(no_mangle)]
pub extern "C" fn run() -> usize {
    let mut words = WORDS.lock().unwrap();
    let words = words.get_or_insert_with(|| Regex::new(r"(?i)\b(\w+)\s+(\p{Greek}|\d)+").unwrap());
    FOUND.with_borrow_mut(|found| {
        found.extend(words.find_iter("alpha 12 beta αβ").map(|found| found.as_str().to_owned()));
        found.len()
    })
}
