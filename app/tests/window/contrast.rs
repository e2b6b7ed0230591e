//! Whether everything that is drawn can be read: each text, with the colour it really has, against what really lies behind
//! it, in every state that there is a picture of and under the pointer. The palette's own test knows only what the palette
//! means to combine.

use std::collections::BTreeSet;

use eframe::egui::{
    Color32, Key, Modifiers, Pos2, Rect, Role, Shape, Theme,
    accesskit::Action,
    epaint::{ClippedShape, TextShape},
};
use egui_kittest::kittest::{NodeT, Queryable};
use reload_dashboard::window::contrast;
use reload_engine::model::Connection;

use crate::{
    peer::{WIDE, Window},
    sample,
};

/// WCAG 2.2: 1.4.3 for text, 1.4.11 for what else has a meaning.
const TEXT: f64 = 4.5;
const ICON: f64 = 3.0;

/// A run of letters of one colour.
struct Run {
    text: String,
    area: Rect,
    colour: Color32,
    background: Color32,
}

/// Fails where something that the window shows cannot be read.
#[track_caller]
pub fn assert_readable(window: &Window, what: &str) {
    let output = window.harness.output();
    let runs = runs(&output.shapes, window.harness.ctx.content_rect());
    assert!(runs.len() > 3, "{what}: hardly any text was found");
    let weak: BTreeSet<String> = runs.iter().filter_map(complaint).collect();
    assert!(weak.is_empty(), "{what}: cannot be read:\n{}", weak.into_iter().collect::<Vec<_>>().join("\n"));
}

fn complaint(run: &Run) -> Option<String> {
    let is_icon = run.text.chars().all(|letter| ('\u{e000}'..='\u{f8ff}').contains(&letter));
    let ratio = contrast(run.colour, run.background);
    let least = if is_icon { ICON } else { TEXT };
    (ratio < least).then(|| {
        let text = if is_icon { run.text.escape_unicode().to_string() } else { run.text.clone() };
        format!("`{text}` {:?} on {:?}: {ratio:.2} at {:?}", run.colour, run.background, run.area.min)
    })
}

fn runs(shapes: &[ClippedShape], screen: Rect) -> Vec<Run> {
    let (mut fills, mut runs) = (Vec::new(), Vec::new());
    for ClippedShape { clip_rect, shape, .. } in shapes {
        visit(shape, *clip_rect, screen, &mut fills, &mut runs);
    }
    runs
}

fn visit(shape: &Shape, clip: Rect, screen: Rect, fills: &mut Vec<(Rect, Color32)>, runs: &mut Vec<Run>) {
    match shape {
        Shape::Vec(shapes) => shapes.iter().for_each(|shape| visit(shape, clip, screen, fills, runs)),
        // A blurred one is a shadow.
        Shape::Rect(rect) if rect.blur_width == 0.0 && rect.fill.a() > 0 => {
            let area = rect.rect.intersect(clip);
            if !area.is_positive() {
                return;
            }
            if area.contains_rect(screen) && rect.fill.a() < 255 {
                // A dialog's backdrop: what lies behind it is out of use.
                runs.clear();
            } else if rect.fill.a() == 255 {
                runs.retain(|run| !area.contains_rect(run.area));
            }
            fills.push((area, rect.fill));
        }
        Shape::Text(text) => text_runs(text, clip, fills, runs),
        _ => {}
    }
}

fn text_runs(shape: &TextShape, clip: Rect, fills: &[(Rect, Color32)], runs: &mut Vec<Run>) {
    for row in &shape.galley.rows {
        let mut run: Option<(Color32, String, Rect)> = None;
        let mut all = Vec::new();
        for glyph in row.row.glyphs.iter().filter(|glyph| !glyph.chr.is_whitespace()) {
            let vertex = row.row.visuals.mesh.vertices.get(glyph.first_vertex as usize);
            let stated = vertex.map_or(Color32::PLACEHOLDER, |vertex| vertex.color);
            let own = if stated == Color32::PLACEHOLDER { shape.fallback_color } else { stated };
            let colour = shape.override_text_color.unwrap_or(own);
            let at = shape.pos + row.pos.to_vec2() + glyph.pos.to_vec2();
            let area = Rect::from_min_max(
                Pos2::new(at.x, at.y - glyph.font_ascent * 0.7),
                Pos2::new(at.x + glyph.advance_width, at.y),
            );
            match &mut run {
                Some((of, text, whole)) if *of == colour => {
                    text.push(glyph.chr);
                    *whole = whole.union(area);
                }
                _ => all.extend(run.replace((colour, glyph.chr.to_string(), area))),
            }
        }
        all.extend(run);
        for (colour, text, area) in all {
            let area = area.intersect(clip);
            if area.width() < 1.0 || area.height() < 1.0 {
                continue;
            }
            for at in [area.left_center() + eframe::egui::vec2(0.5, 0.0), area.center()] {
                let background = behind(at, fills);
                runs.push(Run { text: text.clone(), area, colour: over(background, colour), background });
            }
        }
    }
}

/// What has been painted at this point.
fn behind(at: Pos2, fills: &[(Rect, Color32)]) -> Color32 {
    fills.iter().filter(|(area, _)| area.contains(at)).fold(Color32::BLACK, |below, (_, fill)| over(below, *fill))
}

/// Premultiplied, as egui's colours are.
fn over(below: Color32, colour: Color32) -> Color32 {
    let rest = 255 - u16::from(colour.a());
    let channel = |over: u8, under: u8| (u16::from(over) + u16::from(under) * rest / 255).min(255) as u8;
    Color32::from_rgb(channel(colour.r(), below.r()), channel(colour.g(), below.g()), channel(colour.b(), below.b()))
}

#[test]
fn what_cannot_be_read_is_found() {
    let window = Window::attached(sample::snapshot());
    let output = window.harness.output();
    let mut runs = runs(&output.shapes, window.harness.ctx.content_rect());
    assert!(runs.iter().all(|run| complaint(run).is_none()));
    let name = runs.iter_mut().find(|run| run.text == "libphysics.so").expect("the first row");
    name.colour = Color32::from_rgb(0x50, 0x55, 0x60);
    assert!(complaint(name).is_some());
}

/// The rows of the table are alike: those above this line stand for all.
const ROWS: f32 = 320.0;

/// Every control once under the pointer, tooltips included; of the other tabs of the details only what is theirs.
#[test]
fn under_the_pointer_everything_can_be_read() {
    for theme in [Theme::Dark, Theme::Light] {
        for (tab, live) in
            [(Key::Num1, true), (Key::Num1, false), (Key::Num2, true), (Key::Num3, true), (Key::Num4, true)]
        {
            let mut window = Window::sized(sample::snapshot(), WIDE, theme);
            if !live {
                window.update(|snapshot| snapshot.connection = Connection::Detached);
            }
            window.keys(Modifiers::COMMAND, tab);
            let details = window.harness.get_by_label("Copy path").rect().left() - 320.0;
            let places: Vec<Pos2> = window
                .harness
                .root()
                .children_recursive()
                .filter(|node| {
                    let node = node.accesskit_node();
                    // Labels can be clicked too, to mark their text.
                    node.data().supports_action(Action::Click) && node.role() != Role::Label
                })
                .map(|node| node.rect().center())
                .filter(|at| if tab == Key::Num1 { at.x > details || at.y < ROWS } else { at.x > details })
                .collect();
            assert!(places.len() > 5);
            for at in places {
                window.harness.hover_at(at);
                window.harness.step();
                assert_readable(&window, &format!("{theme:?}, live: {live}, pointer at {at:?}"));
            }
        }
    }
}

/// Each row selected once: chips, weak paths and icons on the selection's colour.
#[test]
fn selected_rows_can_be_read() {
    for theme in [Theme::Dark, Theme::Light] {
        let mut window = Window::sized(sample::snapshot(), WIDE, theme);
        for _ in 0..sample::snapshot().modules.len() {
            window.key(Key::ArrowDown);
            assert_readable(&window, &format!("{theme:?}, {:?}", window.selected()));
        }
    }
}
