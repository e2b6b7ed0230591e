//! A running target, spoken to in lines: its standard input and output are the test's.

use std::{
    io::{BufRead, BufReader, Write},
    process::{ChildStdin, ChildStdout},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
};

use crate::deadline::PATIENCE;

/// The two ends of a conversation with a program.
pub struct Conversation {
    /// `None` once closed, which ends a host of `hosts/`.
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    /// Everything it has said that was not an answer.
    pub said: Vec<String>,
}

impl Conversation {
    pub fn new(input: ChildStdin, output: ChildStdout) -> Self {
        let (sender, lines) = channel();
        // Ends with the program's output, or when nobody listens any more.
        thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Conversation { input: Some(input), lines, said: Vec::new() }
    }

    /// The next line; fails the test at the deadline or when the program has ended.
    pub fn line(&mut self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                panic!("the program said nothing for {PATIENCE:?}; before: {:?}", self.said)
            }
            Err(RecvTimeoutError::Disconnected) => panic!("the program has ended; it said {:?}", self.said),
        }
    }

    /// Closes its input, which ends a host of `hosts/`, and takes all it says until it has ended.
    pub fn last_words(&mut self) -> Vec<String> {
        self.close();
        let mut words = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => words.push(line),
                Err(RecvTimeoutError::Disconnected) => return words,
                Err(RecvTimeoutError::Timeout) => panic!("the program goes on after the end of its input: {words:?}"),
            }
        }
    }

    /// The first line that `wanted` gives a value for.
    pub fn line_where<T>(&mut self, mut wanted: impl FnMut(&str) -> Option<T>) -> T {
        loop {
            let line = self.line();
            if let Some(value) = wanted(&line) {
                return value;
            }
            self.said.push(line);
        }
    }

    /// Sends a command to a host of `hosts/` and returns its answer.
    pub fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        self.answer()
    }

    /// Sends a command whose answer is awaited later.
    pub fn tell(&mut self, command: &str) {
        let input = self.input.as_mut().expect("not closed");
        writeln!(input, "{command}")
            .and_then(|()| input.flush())
            .unwrap_or_else(|error| panic!("`{command}`: {error}; the program said {:?}", self.said));
    }

    /// The answer to the last command.
    pub fn answer(&mut self) -> String {
        self.line_where(|line| line.strip_prefix('>').map(str::to_owned))
    }

    /// Closes the program's standard input.
    pub fn close(&mut self) {
        self.input = None;
    }
}
