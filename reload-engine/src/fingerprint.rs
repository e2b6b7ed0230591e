//! What files' contents are compared by: a hash of the hashes of their blocks, so that several threads can read one file and
//! hash it while the processor's cache has it.

use twox_hash::{XxHash3_128, xxhash3_128};

/// Bytes of all blocks but the last.
pub const BLOCK: usize = 256 << 10;

/// Of all bytes of a file.
pub fn of(bytes: &[u8]) -> u128 {
    of_blocks(bytes.chunks(BLOCK).map(of_block))
}

/// Of the bytes of one block.
pub fn of_block(bytes: &[u8]) -> u128 {
    XxHash3_128::oneshot(bytes)
}

/// Of a file, from those of all its blocks in their order.
pub fn of_blocks(blocks: impl IntoIterator<Item = u128>) -> u128 {
    let mut hasher = xxhash3_128::Hasher::new();
    blocks.into_iter().for_each(|block| hasher.write(&block.to_le_bytes()));
    hasher.finish_128()
}

/// As the ledger has it.
pub fn hexadecimal(fingerprint: u128) -> String {
    format!("{fingerprint:032x}")
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, of, of_block, of_blocks};

    #[test]
    fn every_byte_and_the_order_of_blocks_count() {
        let bytes: Vec<u8> = (0..2 * BLOCK + 9).map(|at| (at * 7 + at / BLOCK) as u8).collect();
        let swapped = [&bytes[BLOCK..2 * BLOCK], &bytes[..BLOCK], &bytes[2 * BLOCK..]].map(of_block);
        let mut all = vec![of(&bytes), of_blocks(swapped), of(&bytes[1..]), of(&bytes[..bytes.len() - 1]), of(&[])];
        for at in [0, BLOCK - 1, BLOCK, 2 * BLOCK, bytes.len() - 1] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            all.push(of(&changed));
        }
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
