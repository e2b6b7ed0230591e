//! Code cut into the stretches that are decoded: each from one function's start to the next.

use std::ops::Range;

use super::Analysis;

/// A section of code, or a part of one that begins where a function does.
pub struct Part<'a> {
    pub start: u64,
    pub bytes: &'a [u8],
}

/// Bytes that begin at a function symbol, or at the section's start, and end at the next.
pub struct Stretch<'a> {
    /// The functions that begin here: aliases of one another.
    pub functions: Option<Range<usize>>,
    pub start: u64,
    pub bytes: &'a [u8],
    /// How many of the bytes are the functions'; padding follows, or something without a symbol.
    pub body: usize,
}

impl<'a> Part<'a> {
    /// How many functions one thread decodes at a time, where there are several.
    const FUNCTIONS: usize = 512;

    /// Cut into parts for several threads.
    pub fn smaller(&self, image: &Analysis) -> Vec<Part<'a>> {
        let end = self.start + self.bytes.len() as u64;
        let functions = &image.functions[image.function_places.below(self.start)..];
        let starts = functions.iter().step_by(Part::FUNCTIONS).skip(1).map(|function| function.address.0);
        let mut bounds: Vec<u64> = starts.take_while(|start| *start < end).collect();
        bounds.extend([self.start, end]);
        bounds.sort_unstable();
        bounds.dedup();
        let part = |bounds: &[u64]| Part {
            start: bounds[0],
            bytes: &self.bytes[(bounds[0] - self.start) as usize..(bounds[1] - self.start) as usize],
        };
        bounds.windows(2).map(part).collect()
    }

    /// Cut where functions begin.
    pub fn stretches(&self, image: &Analysis) -> Vec<Stretch<'a>> {
        let (functions, end) = (&image.functions, self.start + self.bytes.len() as u64);
        let mut index = image.function_places.below(self.start);
        // Most functions have one name, and a few stretches have none.
        let mut stretches = Vec::with_capacity(image.function_places.below(end) - index + 2);
        let mut at = self.start;
        while at < end {
            let first = index;
            let here = functions.get(first).is_some_and(|function| function.address.0 == at);
            let mut size = 0;
            while functions.get(index).is_some_and(|function| function.address.0 == at) {
                size = size.max(functions[index].size);
                index += 1;
            }
            let next = functions.get(index).map_or(end, |function| function.address.0.min(end));
            let bytes = &self.bytes[(at - self.start) as usize..(next - self.start) as usize];
            let body = if size == 0 { bytes.len() } else { (size as usize).min(bytes.len()) };
            stretches.push(Stretch { functions: here.then_some(first..index), start: at, bytes, body });
            at = next;
        }
        stretches
    }
}
