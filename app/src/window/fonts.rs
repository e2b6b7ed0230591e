//! The window's fonts: Inter for text, JetBrains Mono for paths and symbols, Phosphor for icons; egui's own fonts behind them
//! for other scripts.

use std::sync::Arc;

use eframe::egui::{FontData, FontDefinitions, FontFamily};

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

pub fn definitions() -> FontDefinitions {
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
    fonts
}
