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
        FontData::from_static(include_bytes!(concat!("../../../assets/fonts/", $file)))
    };
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
        ("Inter", font!("Inter-Regular.otf")),
        ("Inter Medium", font!("Inter-Medium.otf")),
        ("Inter SemiBold", font!("Inter-SemiBold.otf")),
        ("JetBrains Mono", font!("JetBrainsMono-Regular.ttf")),
        ("Phosphor", font!("Phosphor.ttf")),
        ("Phosphor Fill", font!("Phosphor-Fill.ttf")),
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
