//! A line of a trace taken apart, so that what matters in it stands out: names in backticks, places in sources. The taking
//! apart is pure; [`show`] lays the pieces out.

use std::path::{Path, PathBuf};

use eframe::egui::{
    Color32, CursorIcon, FontId, Label, Response, Role, Sense, Stroke, Ui, WidgetInfo,
    text::{LayoutJob, TextFormat},
};

use crate::{
    sources::Place,
    window::{
        action::Action,
        controls::{self, palette},
        theme,
    },
};

/// A part of a line, with the punctuation around it that must not be torn off at the end of a line.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Piece<'a> {
    before: &'a str,
    text: &'a str,
    after: &'a str,
    kind: Kind,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Kind {
    Plain,
    /// Between backticks, a path, an address, or what the dynamic loader has not found.
    Name,
    /// `FILE:LINE`.
    Source(PathBuf, u32),
}

impl<'a> Piece<'a> {
    fn new(text: &'a str, kind: Kind) -> Piece<'a> {
        Piece { before: "", text, after: "", kind }
    }
}

fn pieces(line: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    for (position, part) in line.split('`').enumerate() {
        let closed = position % 2 == 1;
        match (closed, part) {
            (_, "") => {}
            (true, name) => pieces.push(Piece::new(name, Kind::Name)),
            (false, text) => plain(text, &mut pieces),
        }
    }
    glue(&mut pieces);
    pieces
}

/// Text outside of backticks, with the sources it names.
fn plain<'a>(text: &'a str, pieces: &mut Vec<Piece<'a>>) {
    let mut start = 0;
    let is_edge = |letter: char| letter.is_whitespace() || matches!(letter, '(' | ')' | '[' | ']' | ',' | ';' | '"');
    let mut from = 0;
    let mut before = "";
    for (at, letter) in text.char_indices().chain([(text.len(), ' ')]) {
        if !is_edge(letter) {
            continue;
        }
        let word = text[from..at].trim_end_matches(['.', ':']);
        let kind = match source(word) {
            Some((file, line)) => Some(Kind::Source(file.into(), line)),
            // `undefined symbol: world_gravity` is how the loader tells of it, without backticks.
            None => {
                let is_name = is_path(word) || is_address(word) || (before == "symbol:" && !word.is_empty());
                is_name.then_some(Kind::Name)
            }
        };
        before = &text[from..at];
        if let Some(kind) = kind {
            if start < from {
                pieces.push(Piece::new(&text[start..from], Kind::Plain));
            }
            pieces.push(Piece::new(word, kind));
            start = from + word.len();
        }
        from = at + letter.len_utf8();
    }
    if start < text.len() {
        pieces.push(Piece::new(&text[start..], Kind::Plain));
    }
}

/// Moves brackets and stops next to a name or a source from the plain text to it.
fn glue(pieces: &mut Vec<Piece<'_>>) {
    for at in 0..pieces.len() {
        if pieces[at].kind == Kind::Plain {
            continue;
        }
        if let Some(before) = at.checked_sub(1).filter(|before| pieces[*before].kind == Kind::Plain) {
            let text = pieces[before].text;
            let kept = text.trim_end_matches(['(', '[', '"', '<']);
            (pieces[before].text, pieces[at].before) = (kept, &text[kept.len()..]);
        }
        if let Some(after) = pieces.get(at + 1).filter(|after| after.kind == Kind::Plain) {
            let text = after.text;
            let kept = text.trim_start_matches([')', ']', '"', '>', ',', ';', '.', ':', '!', '?']);
            pieces[at].after = &text[..text.len() - kept.len()];
            pieces[at + 1].text = kept;
        }
    }
    pieces.retain(|piece| !piece.text.is_empty());
}

/// `0x3710`: digits to be compared one by one.
fn is_address(word: &str) -> bool {
    let digits = word.strip_prefix("0x").unwrap_or_default();
    !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// `/proc/4711/maps`: from the root on.
fn is_path(word: &str) -> bool {
    word.strip_prefix('/').is_some_and(|rest| rest.starts_with(char::is_alphanumeric))
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
    let is_named = |piece: &Piece<'_>| piece.kind == Kind::Name && !is_address(piece.text) && !is_path(piece.text);
    let first_name = pieces(line).into_iter().find(is_named);
    foreign_place.iter().any(|place| line.contains(place)) || first_name.is_some_and(|name| foreign_name(name.text))
}

/// Lays a line out, wrapped; its sources can be clicked.
pub fn show(ui: &mut Ui, line: &str, colour: Color32, module: &Path, actions: &mut Vec<Action>) {
    let palette = palette(ui);
    let dim = colour == palette.text_weak;
    // As high as its text, as other lines are, not as a control.
    ui.spacing_mut().interact_size.y = 0.0;
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 0.0;
        for piece in pieces(line) {
            match &piece.kind {
                Kind::Plain => {
                    ui.label(job(&piece, theme::body(), colour, colour));
                }
                Kind::Name => {
                    let bright = if dim { colour } else { palette.text };
                    ui.label(job(&piece, theme::code(), bright, colour));
                }
                Kind::Source(file, line) => {
                    let text = job(&piece, theme::code(), palette.accent_text, colour);
                    if link(ui, text, &format!("Open {} in the editor", piece.text)).clicked() {
                        let place = Place::Line { file: file.clone(), line: *line };
                        actions.push(Action::Edit(place, module.to_owned()));
                    }
                }
            }
        }
    });
}

/// A line for a label, its names and places in `code`; nothing in it can be clicked.
pub fn text(line: &str, [font, code]: [FontId; 2], colour: Color32) -> LayoutJob {
    let mut job = LayoutJob::default();
    for piece in pieces(line) {
        let own = if piece.kind == Kind::Plain { &font } else { &code };
        append(&mut job, &piece, (own, colour), (&font, colour));
    }
    job
}

fn job(piece: &Piece<'_>, font: FontId, bright: Color32, colour: Color32) -> LayoutJob {
    let mut job = LayoutJob::default();
    append(&mut job, piece, (&font, bright), (&theme::body(), colour));
    job
}

/// `own` is the look of the piece, `around` that of the punctuation beside it.
fn append(job: &mut LayoutJob, piece: &Piece<'_>, own: (&FontId, Color32), around: (&FontId, Color32)) {
    for (text, (font, colour)) in [(piece.before, around), (piece.text, own), (piece.after, around)] {
        if !text.is_empty() {
            job.append(text, 0.0, TextFormat::simple(font.clone(), colour));
        }
    }
}

/// Text that leads to the editor.
fn link(ui: &mut Ui, text: LayoutJob, name: &str) -> Response {
    let palette = palette(ui);
    let response = ui.add(Label::new(text).sense(Sense::click())).on_hover_cursor(CursorIcon::PointingHand);
    response.widget_info(|| WidgetInfo::labeled(Role::Link, true, name));
    if response.hovered() || response.has_focus() {
        let rect = response.rect;
        ui.painter().hline(rect.x_range(), rect.bottom(), Stroke::new(1.0, palette.accent_text));
    }
    controls::hint(response, name)
}

#[cfg(test)]
mod tests {
    use eframe::egui::{Color32, FontId};

    use super::{Kind, is_foreign, pieces, text};

    /// The pieces as text: names in angle brackets, sources in square ones.
    fn check(line: &str, expected: &str) {
        let told: String = pieces(line)
            .into_iter()
            .map(|piece| {
                let text = match piece.kind {
                    Kind::Plain => piece.text.to_owned(),
                    Kind::Name => format!("<{}>", piece.text),
                    Kind::Source(file, line) => format!("[{} {line}]", file.display()),
                };
                format!("{}{text}{}", piece.before, piece.after)
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
        check("/a b.c:7:12, then x.hpp:3.", "</a> [b.c 7], then [x.hpp 3].");
        check("at 10:30 e_machine is 183 (aarch64)", "at 10:30 e_machine is 183 (aarch64)");
        check(
            "headers at 0x3710 lie beyond 0xbb8, not 0x or 0xyz",
            "headers at <0x3710> lie beyond <0xbb8>, not 0x or 0xyz",
        );
        check(
            "libfoo.so: undefined symbol: _ZN5world7gravityE, version V1",
            "libfoo.so: undefined symbol: <_ZN5world7gravityE>, version V1",
        );
        check("Undefined symbol: world_gravity.", "Undefined symbol: <world_gravity>.");
        check("/usr/lib/x.so.6: not/a/path, / and /tmp/a.", "</usr/lib/x.so.6>: not/a/path, / and </tmp/a>.");
        check("a `lonely tick", "a <lonely tick>");
        check("", "");
    }

    #[test]
    fn brackets_and_stops_stay_with_what_they_belong_to() {
        let told = pieces("`World` (src/world.rs:31): grew");
        let parts: Vec<_> = told.iter().map(|piece| (piece.before, piece.text, piece.after)).collect();
        let expected = [("", "World", ""), ("", " ", ""), ("(", "src/world.rs:31", "):"), ("", " grew", "")];
        assert_eq!(parts, expected);
    }

    #[test]
    fn labels_have_names_and_places_in_the_code_font() {
        let fonts = [FontId::proportional(14.0), FontId::monospace(13.0)];
        let job = text("once `run` starts it: (a.rs:3)", fonts.clone(), Color32::WHITE);
        let of = |font: &FontId| -> Vec<&str> {
            let sections = job.sections.iter().filter(|section| section.format.font_id == *font);
            let ranges = sections.map(|section| section.byte_range.start.0..section.byte_range.end.0);
            ranges.map(|range| &job.text[range]).collect()
        };
        assert_eq!(of(&fonts[0]), ["once ", " starts it: (", ")"]);
        assert_eq!(of(&fonts[1]), ["run", "a.rs:3"]);
    }

    #[test]
    fn own_code_is_told_from_foreign() {
        assert!(is_foreign("`core::fmt::Write` changed"));
        assert!(is_foreign("`<alloc::vec::Vec<u8> as Drop>::drop` in `physics`"));
        assert!(is_foreign("inlined at /rustc/abc/library/core/src/ptr.rs:490"));
        assert!(!is_foreign("`physics::step` takes a `core::time::Duration`"));
        assert!(is_foreign("/tmp/a.so: `core::fmt::Write` changed"));
        assert!(!is_foreign("libphysics.so: not a library"));
    }
}
