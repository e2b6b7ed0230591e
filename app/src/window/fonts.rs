//! The window's fonts: Inter for text, JetBrains Mono for paths and symbols, Phosphor for icons; egui's own fonts behind them
//! for other scripts, and fonts of the system behind those, once a name needs them.

use std::{collections::BTreeSet, sync::Arc};

use eframe::egui::{Context, FontData, FontDefinitions, FontFamily};

use crate::{glyphs::Font, window::theme};

/// The last character of Latin Extended-B; the window's fonts have those before.
const LATIN: char = '\u{24f}';

/// Inter Medium.
pub fn medium() -> FontFamily {
    FontFamily::Name("medium".into())
}

/// Inter SemiBold.
pub fn semibold() -> FontFamily {
    FontFamily::Name("semibold".into())
}

/// Phosphor, outlined.
pub fn icons() -> FontFamily {
    FontFamily::Name("icons".into())
}

/// Phosphor, filled. The same code points as [`icons`], hence a family of its own.
pub fn icons_filled() -> FontFamily {
    FontFamily::Name("icons-filled".into())
}

macro_rules! font {
    ($file:literal) => {
        include_bytes!(concat!("../../../assets/fonts/", $file))
    };
}

/// A font that draws every text as it is spelled: without its table of glyph substitutions. These would make a multiplication
/// sign of the x in `0x10` and an arrow of `->`, and looking for them is most of what laying out a path costs; egui cannot
/// switch them off one by one.
fn as_spelled(font: &[u8]) -> FontData {
    let mut font = font.to_vec();
    // OpenType, "Table Directory": the number of tables at 4; from 12 a record of 16 bytes for each: tag, checksum, offset,
    // length. A table at offset 0 is one that is not there.
    let tables = usize::from(u16::from_be_bytes([font[4], font[5]]));
    let mut records = font[12..].chunks_exact_mut(16).take(tables);
    if let Some(record) = records.find(|record| record.starts_with(b"GSUB")) {
        record[8..].fill(0);
    }
    FontData::from_owned(font)
}

/// The characters of `text` that the window has met for the first time and cannot draw.
pub fn lacking<'a>(
    context: &Context,
    texts: impl Iterator<Item = std::borrow::Cow<'a, str>>,
    met: &mut BTreeSet<char>,
) -> BTreeSet<char> {
    let mut lacking = BTreeSet::new();
    for text in texts.filter(|text| !text.is_ascii()) {
        for character in text.chars().filter(|character| *character > LATIN && !character.is_control()) {
            if met.insert(character) && context.fonts_mut(|fonts| !fonts.has_glyph(&theme::body(), character)) {
                lacking.insert(character);
            }
        }
    }
    lacking
}

/// The window's fonts, with these of the system behind them.
pub fn definitions(system: &[Font]) -> FontDefinitions {
    let mut fonts = FontDefinitions::default();
    let files = [
        ("Inter", as_spelled(font!("Inter-Regular.otf"))),
        ("Inter Medium", as_spelled(font!("Inter-Medium.otf"))),
        ("Inter SemiBold", as_spelled(font!("Inter-SemiBold.otf"))),
        ("JetBrains Mono", as_spelled(font!("JetBrainsMono-Regular.ttf"))),
        ("Phosphor", FontData::from_static(font!("Phosphor.ttf"))),
        ("Phosphor Fill", FontData::from_static(font!("Phosphor-Fill.ttf"))),
    ];
    for (name, data) in files {
        fonts.font_data.insert(name.to_owned(), Arc::new(data));
    }
    let text_fallback = fonts.families.get(&FontFamily::Proportional).cloned().unwrap_or_default();
    let code_fallback = fonts.families.get(&FontFamily::Monospace).cloned().unwrap_or_default();
    let families = [
        (FontFamily::Proportional, "Inter", &text_fallback),
        (medium(), "Inter Medium", &text_fallback),
        (semibold(), "Inter SemiBold", &text_fallback),
        (FontFamily::Monospace, "JetBrains Mono", &code_fallback),
        (icons(), "Phosphor", &Vec::new()),
        (icons_filled(), "Phosphor Fill", &Vec::new()),
    ];
    for (family, first, rest) in families {
        let names = std::iter::once(first.to_owned()).chain(rest.iter().cloned()).collect();
        fonts.families.insert(family, names);
    }
    for font in system {
        let name = format!("{} {}", font.path.display(), font.index);
        let mut data = FontData::from_owned(font.bytes.clone());
        data.index = font.index;
        fonts.font_data.insert(name.clone(), Arc::new(data));
        for family in [FontFamily::Proportional, FontFamily::Monospace, medium(), semibold()] {
            fonts.families.entry(family).or_default().push(name.clone());
        }
    }
    fonts
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use eframe::egui::{Color32, Context, FontData, FontDefinitions, FontId, RawInput, Vec2};

    use super::definitions;
    use crate::window::theme;

    /// The sizes of the glyphs that a text is drawn with.
    fn glyphs(text: &str, font: &FontId, fonts: &FontDefinitions) -> Vec<Vec2> {
        let context = Context::default();
        context.set_fonts(fonts.clone());
        let mut sizes = Vec::new();
        let mut output = context.run_ui(RawInput::default(), |ui| {
            let galley = ui.painter().layout_no_wrap(text.to_owned(), font.clone(), Color32::WHITE);
            sizes = galley.rows[0].glyphs.iter().map(|glyph| glyph.uv_rect.size).collect();
        });
        output.textures_delta.clear();
        sizes
    }

    /// Whether its letters look as each does alone, but for the pixel that they may lie beside.
    fn is_as_spelled(text: &str, font: &FontId, fonts: &FontDefinitions) -> bool {
        let alone = text.chars().flat_map(|letter| glyphs(&letter.to_string(), font, fonts));
        glyphs(text, font, fonts).into_iter().zip(alone).all(|(a, b)| (a - b).abs().max_elem() <= 1.0)
    }

    #[test]
    fn names_are_drawn_as_they_are_spelled() {
        let ours = definitions(&[]);
        let mut published = ours.clone();
        for (name, data) in [
            ("JetBrains Mono", FontData::from_static(font!("JetBrainsMono-Regular.ttf"))),
            ("Inter", FontData::from_static(font!("Inter-Regular.otf"))),
        ] {
            published.font_data.insert(name.to_owned(), Arc::new(data));
        }
        for font in [theme::code(), theme::body()] {
            assert!(is_as_spelled("->", &font, &ours), "{font:?}");
            assert!(!is_as_spelled("->", &font, &published), "{font:?}: nothing to be left out");
        }
    }
}
