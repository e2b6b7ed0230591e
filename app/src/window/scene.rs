//! What panels see: the state they read and the little they may write themselves.

use std::{
    cell::Cell,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use eframe::egui::Id;
use jiff::tz::TimeZone;
use reload_engine::model::{Connection, Mark, Module, Snapshot};

use crate::{
    config::file::Found,
    window::{
        chooser::Chooser, details, dialogs::Dialog, format, rows::Query, settings::Settings, target_tab::TargetTab,
        toasts::Toast,
    },
    worker::Candidate,
};

/// Where the keys of the table go.
pub fn table_id() -> Id {
    Id::unique("modules")
}

pub fn filter_id() -> Id {
    Id::unique("filter")
}

/// What the user has typed, selected and opened.
#[derive(Default)]
pub struct View {
    pub query: Query,
    pub selected: Option<PathBuf>,
    /// Whether it is to stay so: the user has selected it, or it has failed; else it is only the first row.
    pub chosen: bool,
    /// The table should bring the selected row into view.
    pub reveal: bool,
    pub tab: details::Tab,
    /// How far the details are still to be scrolled down, in points.
    pub scroll_details: f32,
    /// How much larger the details are still to become, in points.
    pub resize_details: f32,
    /// The search field of the changes.
    pub search: String,
    /// The module that the details are about.
    pub details_of: Option<PathBuf>,
    /// Position of the opened line of its history.
    pub history_open: Option<usize>,
    /// Position of the line of its history whose changes are shown; the last reload where there is none.
    pub changes_of: Option<usize>,
    pub dialog: Option<Dialog>,
    pub focus_filter: bool,
    /// The target picker's list, while it is open.
    pub picker: Option<Chooser>,
    /// How many rows fit on a page of the table.
    pub page: usize,
}

impl View {
    /// Selects a module to stay selected, and brings it into view.
    pub fn choose(&mut self, module: Option<PathBuf>) {
        self.selected = module;
        self.chosen = true;
        self.reveal = true;
    }
}

/// What panels read.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    pub tabs: &'a [TargetTab],
    pub active: usize,
    pub candidates: &'a [Candidate],
    pub settings: &'a Settings,
    pub file: &'a Found,
    pub toasts: &'a [Toast],
    pub now: SystemTime,
    /// Of the clock on the wall.
    pub zone: &'a TimeZone,
    /// How long what is shown reads as it does; the ages in view shorten it.
    pub lasts: &'a Cell<Duration>,
}

impl<'a> Scene<'a> {
    pub fn tab(&self) -> Option<&'a TargetTab> {
        self.tabs.get(self.active)
    }

    pub fn snapshot(&self) -> Option<&'a Snapshot> {
        self.tab()?.snapshot.as_deref()
    }

    pub fn is_live(&self) -> bool {
        self.tab().is_some_and(TargetTab::is_live)
    }

    /// Whether the shown target is a program that has ended.
    pub fn has_ended(&self) -> bool {
        matches!(self.snapshot().map(|snapshot| &snapshot.connection), Some(Connection::Exited(_)))
    }

    /// How long ago that was, in words that the window keeps up to date as long as they are shown.
    pub fn age(&self, time: SystemTime) -> String {
        self.lasts.set(self.lasts.get().min(format::age_lasts(time, self.now)));
        format::age(time, self.now)
    }

    pub fn exact(&self, time: SystemTime) -> String {
        format::exact(time, self.zone)
    }

    pub fn selected(&self, view: &View) -> Option<&'a Module> {
        Some(self.tab()?.module(view.selected.as_ref()?)?.1)
    }
}

/// What a press of the mark key or button makes of a mark.
pub fn toggled(mark: Mark, to: Mark) -> Mark {
    if mark == to { Mark::None } else { to }
}
