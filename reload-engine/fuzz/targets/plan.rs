//! A reload: the input ends with eight bytes that say how its successor differs from it.

#![no_main]

#[path = "../../tests/hostile/mutations.rs"]
mod mutations;
#[path = "../../tests/hostile/steps.rs"]
mod steps;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((old, seed)) = bytes.split_last_chunk::<8>() else { return };
    let (new, _) = mutations::mutate(old, &mutations::parts(old), u64::from_le_bytes(*seed));
    if let (Some(old), Some(new)) = (steps::alone(old), steps::alone(&new)) {
        steps::successor(&old, &new);
    }
});
