//! What the window remembers of itself from one run to the next: looks, columns, the last target. What concerns programs is
//! in the user's file, see [`crate::config`].

use std::collections::BTreeMap;

use eframe::egui::ThemePreference;
use serde::{Deserialize, Serialize};

use crate::window::rows::{Column, Sort};

/// The key under which eframe keeps them.
pub const KEY: &str = "settings";

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    pub theme: ThemePreference,
    pub details: bool,
    pub compact: bool,
    pub sort: Sort,
    pub system_open: bool,
    /// Widths of the columns that were given another one.
    pub widths: BTreeMap<Column, f32>,
    /// The executable of the target shown last, offered first the next time.
    pub last_program: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            theme: ThemePreference::System,
            details: true,
            compact: false,
            sort: Sort::default(),
            system_open: false,
            widths: BTreeMap::new(),
            last_program: None,
        }
    }
}
