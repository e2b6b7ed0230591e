//! The icons in use, by what they mean here (Phosphor code points).

use eframe::egui::{FontFamily, FontId};
use reload_engine::model::Status;

use crate::window::fonts;

pub const MARK: char = '\u{e0ea}';
pub const SKIP: char = '\u{e3de}';
pub const RELOAD: char = '\u{e036}';
pub const RELOADING: char = '\u{e094}';
pub const ROLLBACK: char = '\u{e038}';
pub const CURRENT: char = '\u{e184}';
pub const CHANGED: char = '\u{e2b8}';
pub const REFUSED: char = '\u{e412}';
pub const FAILED: char = '\u{e4e4}';
pub const MISSING: char = '\u{e23c}';
pub const SUN: char = '\u{e472}';
pub const MOON: char = '\u{e330}';
pub const DETAILS: char = '\u{ec24}';
pub const SEARCH: char = '\u{e30c}';
pub const DETACHED: char = '\u{eb56}';
pub const ATTACHED: char = '\u{eb5a}';
pub const WATCH: char = '\u{e220}';
pub const COPY: char = '\u{e1ca}';
pub const DOWN: char = '\u{e136}';
pub const LEFT: char = '\u{e138}';
pub const RIGHT: char = '\u{e13a}';
pub const UP: char = '\u{e13c}';
pub const CLOSE: char = '\u{e4f6}';
pub const FOLDER: char = '\u{e256}';
pub const COMMANDS: char = '\u{ebe0}';
pub const WARNING: char = '\u{e4e0}';
pub const ADD: char = '\u{e3d4}';
pub const CHECK: char = '\u{e182}';
pub const EXITED: char = '\u{e3da}';
pub const EMPTY: char = '\u{e466}';
pub const HELP: char = '\u{e2d8}';
pub const COMPACT: char = '\u{e5a2}';
pub const TARGET: char = '\u{e47c}';
pub const START: char = '\u{e3d0}';
pub const EXPORT: char = '\u{eaf0}';
pub const COLUMNS: char = '\u{e546}';
pub const SETTINGS: char = '\u{e272}';
pub const CRASHED: char = '\u{e916}';
pub const FORKED: char = '\u{e27e}';
pub const REMEDY: char = '\u{e63a}';
pub const NO_MATCH: char = '\u{e26a}';

pub fn outline(size: f32) -> FontId {
    FontId::new(size, fonts::icons())
}

pub fn filled(size: f32) -> FontId {
    FontId::new(size, fonts::icons_filled())
}

/// The icon of a status and the family it is drawn from.
pub fn status(status: Status) -> (char, FontFamily) {
    match status {
        Status::Current => (CURRENT, fonts::icons_filled()),
        Status::Changed => (CHANGED, fonts::icons_filled()),
        Status::Reloading => (RELOADING, fonts::icons()),
        Status::Refused => (REFUSED, fonts::icons_filled()),
        Status::Failed => (FAILED, fonts::icons_filled()),
        Status::Skipped => (SKIP, fonts::icons()),
        Status::Missing => (MISSING, fonts::icons_filled()),
    }
}

/// The word of a status.
pub fn status_word(status: Status) -> &'static str {
    match status {
        Status::Current => "Current",
        Status::Changed => "Changed",
        Status::Reloading => "Reloading",
        Status::Refused => "Refused",
        Status::Failed => "Failed",
        Status::Skipped => "Skipped",
        Status::Missing => "Missing",
    }
}
