//! Everything a user can do, as values: keys, buttons and the palette all end in one of these, the dashboard carries it out.

use std::path::PathBuf;

use eframe::egui::ThemePreference;
use reload_engine::model::{Generation, Mark, Mode, Status};

use crate::window::{dialogs::Dialog, rows::Column};

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Every changed module except skipped ones.
    ReloadNow,
    /// This module, even where an earlier attempt failed.
    Reload(PathBuf),
    /// This module, and what refused it only warns.
    ReloadAnyway(PathBuf),
    SetMode(Mode),
    Mark(PathBuf, Mark),
    /// To the generation before the active one where none is given.
    Rollback(PathBuf, Option<Generation>),
    Load(PathBuf),
    Detach,
    Attach,

    /// Opens a session with the process of this id and shows it.
    Open(u32),
    /// Opens the shown target's session anew.
    Retry,
    /// Shows the open target at this position.
    Show(usize),
    /// Closes the open target at this position.
    Close(usize),
    /// Asks which processes there are.
    ListTargets,
    PickFile,

    Select(PathBuf),
    /// Moves the selection by so many rows.
    Move(isize),
    First,
    Last,
    Sort(Column),
    FilterStatus(Option<Status>),
    ClearFilter,
    FocusFilter,
    ToggleSystem,
    ToggleDetails,
    ToggleCompact,
    SetTheme(ThemePreference),
    ToggleTheme,
    Dialog(Dialog),
    PickTarget,
    CloseDialogs,
    DismissNotice,
    Copy(String),
}
