//! The window. [`run`] opens it and returns when it is closed; the target goes on.
//!
//! Panels (`top_bar`, `tool_bar`, `table`, `details`, `status_bar`, `states`, `dialogs`) read state and answer with actions;
//! they do no I/O and never wait. What takes time runs in sessions and in [`crate::worker`].

use std::sync::{Arc, OnceLock};

use eframe::egui::{Context, IconData, Vec2, ViewportBuilder};
use reload_engine::session::Session;

use crate::worker::Connector;

pub mod action;
mod carry_out;
mod chooser;
mod controls;
mod dashboard;
mod details;
mod dialogs;
mod display;
mod fonts;
mod format;
mod icons;
mod keys;
mod news;
mod path_dialog;
mod placement;
mod report;
mod row_menu;
mod rows;
mod scene;
mod settings;
mod states;
mod stats;
mod status_bar;
mod tab_strip;
mod table;
mod target_tab;
mod theme;
mod toasts;
mod tool_bar;
mod top_bar;

pub use dashboard::Dashboard;
pub use settings::Settings;
pub use target_tab::{Link, TargetTab};
pub use theme::contrast;

/// For the window system, and for eframe's storage.
const NAME: &str = "reload-dashboard";
/// Of the window's content, in points.
const SMALLEST: Vec2 = Vec2::new(640.0, 420.0);

/// Why there is no window.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No display, or libraries of it are missing; names the packages.
    #[error("{0}")]
    Display(display::Problem),
    #[error("starting the window's worker")]
    Worker(#[source] std::io::Error),
    #[error(
        "the display cannot be used: {0}; is it there, and may this user connect to it ($DISPLAY or $WAYLAND_DISPLAY, \
         $XAUTHORITY)? `list`, `reload`, `watch` and `run --headless` need none"
    )]
    Unreachable(String),
    #[error("opening the window")]
    Window(#[source] eframe::Error),
}

/// What the window starts with.
#[derive(Default)]
pub struct Start {
    pub target: Option<StartTarget>,
    /// Draws the window again when a session opened before it has news.
    pub wake: Wake,
}

pub enum StartTarget {
    /// A process to attach to.
    Pid(u32),
    /// A session that is open already, as of a program just launched.
    Session {
        pid: u32,
        name: String,
        session: Session,
        /// The command it was started with.
        command: Vec<String>,
    },
}

/// Wakes a window that may not have been opened yet. Made before the session, whose `wake` it is, and handed to [`Start`].
#[derive(Clone, Default)]
pub struct Wake(Arc<OnceLock<Context>>);

impl Wake {
    pub fn wake(&self) {
        if let Some(context) = self.0.get() {
            context.request_repaint();
        }
    }
}

/// Whether a window could be opened here.
pub fn check() -> Result<(), Error> {
    display::check().map_err(Error::Display)
}

/// Opens the window and returns when the user has closed it. Must be called on the main thread.
pub fn run(start: Start) -> Result<(), Error> {
    check()?;
    let Start { target, wake } = start;
    let connector = {
        let wake = wake.clone();
        Connector::start(move || wake.wake()).map_err(Error::Worker)?
    };
    let beside = matches!(target, Some(StartTarget::Session { .. }));
    let tabs = match target {
        None => Vec::new(),
        Some(StartTarget::Pid(pid)) => vec![TargetTab::new(pid, format!("process {pid}"), Link::Opening)],
        Some(StartTarget::Session { pid, name, session, command }) => {
            let mut tab = TargetTab::new(pid, name, Link::Open(session));
            tab.command = command;
            vec![tab]
        }
    };
    let viewport =
        ViewportBuilder::default().with_app_id(NAME).with_title(NAME).with_min_inner_size(SMALLEST).with_icon(icon());
    // Beside a program that was just launched, leave the left of the screen to it.
    let viewport = if beside {
        viewport.with_inner_size([1180.0, 800.0]).with_position([704.0, 48.0])
    } else {
        viewport.with_inner_size([1280.0, 800.0])
    };
    // In the middle the first time only: that comes before the place where the window was left.
    let centered = !beside && !is_remembered();
    let options = eframe::NativeOptions { viewport, centered, ..eframe::NativeOptions::default() };
    eframe::run_native(
        NAME,
        options,
        Box::new(move |creation| {
            // Set once: this is the only window of the process.
            let _ = wake.0.set(creation.egui_ctx.clone());
            let dashboard = Dashboard::new(&creation.egui_ctx, creation.storage, connector, tabs);
            Ok(Box::new(if beside { dashboard.beside() } else { dashboard }))
        }),
    )
    .map_err(|error| match error {
        eframe::Error::WinitEventLoop(why) => Error::Unreachable(without_place(&why.to_string()).to_owned()),
        other => Error::Window(other),
    })
}

/// What went wrong, without where in winit's source that was noticed.
fn without_place(message: &str) -> &str {
    let placed = message.strip_prefix("os error at ").and_then(|rest| rest.split_once(": "));
    placed.map_or(message, |(_, why)| why)
}

/// Whether eframe has kept anything of a window before.
fn is_remembered() -> bool {
    eframe::storage_dir(NAME).is_some_and(|folder| folder.join("app.ron").exists())
}

fn icon() -> IconData {
    eframe::icon_data::from_png_bytes(include_bytes!("../../../assets/icon.png")).unwrap_or_default()
}
