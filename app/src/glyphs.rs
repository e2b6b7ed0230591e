//! Fonts of this system for characters that the window's own fonts lack: names may be in any script. Asks fontconfig, which
//! every desktop has; where it is missing, such characters stay boxes. Reads files; for the worker.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

/// Characters of one alphabet share a font; of more of them only the first ones are looked for.
const MOST_ASKED: usize = 24;
/// A font of all Chinese, Japanese and Korean characters has some 20 MB.
const LARGEST: u64 = 64 << 20;

/// A font file, read.
#[derive(Clone, PartialEq, Eq)]
pub struct Font {
    pub path: PathBuf,
    /// Which of a collection.
    pub index: u32,
    pub bytes: Vec<u8>,
}

/// Fonts that together have as many of the characters as can be.
pub fn fonts_for(characters: &BTreeSet<char>) -> Vec<Font> {
    let mut fonts: Vec<Font> = Vec::new();
    for character in characters.iter().take(MOST_ASKED) {
        let pattern = format!(":charset={:x}", u32::from(*character));
        let having = ask("fc-list", &pattern);
        if fonts.iter().any(|font| having.iter().any(|(path, index)| *path == font.path && *index == font.index)) {
            continue;
        }
        // It always names a font, perhaps one without the character.
        let best = ask("fc-match", &pattern).into_iter().find(|best| having.contains(best));
        let Some((path, index)) = best else { continue };
        if fs::metadata(&path).is_ok_and(|file| file.len() <= LARGEST)
            && let Ok(bytes) = fs::read(&path)
        {
            fonts.push(Font { path, index, bytes });
        }
    }
    fonts
}

/// Files and positions in them that one of fontconfig's programs names.
fn ask(program: &str, pattern: &str) -> Vec<(PathBuf, u32)> {
    let mut command = Command::new(program);
    command.args(["--format", "%{file}\t%{index}\n", pattern]).stdin(Stdio::null()).stderr(Stdio::null());
    let Ok(output) = command.output() else { return Vec::new() };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let fonts = text.lines().filter_map(|line| {
        let (path, index) = line.split_once('\t')?;
        // The upper half tells the instance of a variable font; its default one does.
        Some((PathBuf::from(path), index.parse::<u32>().ok()? & 0xffff))
    });
    fonts.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::fonts_for;

    #[test]
    fn one_font_for_one_alphabet() {
        let georgian: BTreeSet<char> = "ქართული".chars().collect();
        let fonts = fonts_for(&georgian);
        if fonts.is_empty() {
            eprintln!("skipped: one_font_for_one_alphabet: no font here has Georgian letters");
            return;
        }
        assert_eq!(fonts.len(), 1, "{:?}", fonts.iter().map(|font| &font.path).collect::<Vec<_>>());
        assert!(fonts[0].bytes.len() > 1000);
    }

    #[test]
    fn what_no_font_has_is_no_font() {
        // The last code point of the private planes.
        assert!(fonts_for(&BTreeSet::from(['\u{10fffd}'])).is_empty());
    }
}
