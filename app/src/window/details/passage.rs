//! A line of a trace taken apart, so that what matters in it stands out: names in backticks, places in sources. The taking
//! apart is pure; [`show`] lays the pieces out.

use std::path::{Path, PathBuf};

use eframe::egui::{Color32, CursorIcon, Label, Response, RichText, Role, Sense, Ui, WidgetInfo};

use crate::{
    sources::Place,
    window::{action::Action, controls::palette, theme},
};

/// A part of a line.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece<'a> {
    Plain(&'a str),
    /// Between backticks.
    Name(&'a str),
    /// `FILE:LINE`.
    Source(&'a str, PathBuf, u32),
}

fn pieces(line: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    for (position, part) in line.split('`').enumerate() {
        let closed = position % 2 == 1;
        match (closed, part) {
            (_, "") => {}
            (true, name) => pieces.push(Piece::Name(name)),
            (false, text) => plain(text, &mut pieces),
        }
    }
    pieces
}

/// Text outside of backticks, with the sources it names.
fn plain<'a>(text: &'a str, pieces: &mut Vec<Piece<'a>>) {
    let mut start = 0;
    let is_edge = |letter: char| letter.is_whitespace() || matches!(letter, '(' | ')' | '[' | ']' | ',' | ';' | '"');
    let mut from = 0;
    for (at, letter) in text.char_indices().chain([(text.len(), ' ')]) {
        if !is_edge(letter) {
            continue;
        }
        let word = text[from..at].trim_end_matches(['.', ':']);
        if let Some((file, line)) = source(word) {
            if start < from {
                pieces.push(Piece::Plain(&text[start..from]));
            }
            pieces.push(Piece::Source(word, file.into(), line));
            start = from + word.len();
        }
        from = at + letter.len_utf8();
    }
    if start < text.len() {
        pieces.push(Piece::Plain(&text[start..]));
    }
}

/// `src/world.rs:31`, perhaps with a column behind it.
fn source(word: &str) -> Option<(&str, u32)> {
    let (mut file, mut line) = word.rsplit_once(':')?;
    if let Some((before, number)) = file.rsplit_once(':')
        && number.parse::<u32>().is_ok()
    {
        (file, line) = (before, number);
    }
    let extension = Path::new(file).extension()?.to_str()?;
    let is_source = extension.len() <= 5 && extension.starts_with(|letter: char| letter.is_ascii_alphabetic());
    is_source.then_some((file, line.parse().ok()?))
}

/// Whether a line is about code that is not the user's: the language's own, the system's, a dependency.
pub fn is_foreign(line: &str) -> bool {
    let foreign_place = ["/rustc/", "/usr/include/", "/usr/lib/", ".cargo/registry/", "library/std/", "library/core/"];
    let foreign_name = |name: &str| {
        let name = name.trim_start_matches(['<', '&']);
        ["std::", "core::", "alloc::", "__gnu_cxx::", "tokio::runtime::"].iter().any(|root| name.starts_with(root))
    };
    let mut names = pieces(line).into_iter().filter_map(|piece| match piece {
        Piece::Name(name) => Some(name),
        _ => None,
    });
    foreign_place.iter().any(|place| line.contains(place)) || names.next().is_some_and(foreign_name)
}

/// Lays a line out, wrapped; its sources can be clicked.
pub fn show(ui: &mut Ui, line: &str, colour: Color32, module: &Path, actions: &mut Vec<Action>) {
    let palette = palette(ui);
    let dim = colour == palette.text_weak;
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 0.0;
        for piece in pieces(line) {
            match piece {
                Piece::Plain(text) => {
                    ui.label(RichText::new(text).color(colour));
                }
                Piece::Name(name) => {
                    let colour = if dim { colour } else { palette.text };
                    ui.label(RichText::new(name).font(theme::code()).color(colour));
                }
                Piece::Source(text, file, line) => {
                    if link(ui, text, &format!("Open {text} in the editor")).clicked() {
                        actions.push(Action::Edit(Place::Line { file, line }, module.to_owned()));
                    }
                }
            }
        }
    });
}

/// Text in the code font that leads to the editor.
pub fn link(ui: &mut Ui, text: &str, name: &str) -> Response {
    let palette = palette(ui);
    let label = Label::new(RichText::new(text).font(theme::code()).color(palette.accent_text));
    let response = ui.add(label.sense(Sense::click())).on_hover_cursor(CursorIcon::PointingHand);
    response.widget_info(|| WidgetInfo::labeled(Role::Link, true, name));
    if response.hovered() || response.has_focus() {
        let rect = response.rect;
        ui.painter().hline(rect.x_range(), rect.bottom(), eframe::egui::Stroke::new(1.0, palette.accent_text));
    }
    response.on_hover_text(name)
}

#[cfg(test)]
mod tests {
    use super::{Piece, is_foreign, pieces};

    /// The pieces as text: names in angle brackets, sources in square ones.
    fn check(line: &str, expected: &str) {
        let told: String = pieces(line)
            .into_iter()
            .map(|piece| match piece {
                Piece::Plain(text) => text.to_owned(),
                Piece::Name(name) => format!("<{name}>"),
                Piece::Source(_, file, line) => format!("[{} {line}]", file.display()),
            })
            .collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn names_and_sources_stand_out() {
        check(
            "`World`: field `g` moved from 16 to 24 (src/world.rs:31)",
            "<World>: field <g> moved from 16 to 24 ([src/world.rs 31])",
        );
        check("/a b.c:7:12, then x.hpp:3.", "/a [b.c 7], then [x.hpp 3].");
        check("at 10:30 e_machine is 183 (aarch64)", "at 10:30 e_machine is 183 (aarch64)");
        check("a `lonely tick", "a <lonely tick>");
        check("", "");
    }

    #[test]
    fn own_code_is_told_from_foreign() {
        assert!(is_foreign("`core::fmt::Write` changed"));
        assert!(is_foreign("`<alloc::vec::Vec<u8> as Drop>::drop` in `physics`"));
        assert!(is_foreign("inlined at /rustc/abc/library/core/src/ptr.rs:490"));
        assert!(!is_foreign("`physics::step` takes a `core::time::Duration`"));
        assert!(!is_foreign("libphysics.so: not a library"));
    }
}
