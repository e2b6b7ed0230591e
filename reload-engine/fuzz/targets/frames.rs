//! What arrives on the agent's socket, and what the agent answers.

#![no_main]

use reload_protocol::{FromAgent, Request, receive};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut stream = bytes;
    while let Ok(_request) = receive::<Request>(&mut stream) {}
    let mut stream = bytes;
    while let Ok(_answer) = receive::<FromAgent>(&mut stream) {}
});
