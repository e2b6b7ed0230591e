//! Everything a user can do, as values: keys, buttons and the palette all end in one of these, the dashboard carries it out.

use std::path::PathBuf;

use eframe::egui::ThemePreference;
use reload_engine::model::{Generation, Mark, Mode, Status};

use crate::{
    desktop::Wanted,
    sources::Place,
    window::{details, dialogs::Dialog, rows::Column},
};

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Every changed module except skipped ones.
    ReloadNow,
    /// This module, even where an earlier attempt failed.
    Reload(PathBuf),
    /// This module, and what refused it only warns.
    ReloadAnyway(PathBuf),
    /// Gives up the reload under way, as long as that can be.
    Cancel,
    SetMode(Mode),
    Mark(PathBuf, Mark),
    /// To the generation before the active one where none is given.
    Rollback(PathBuf, Option<Generation>),
    Load(PathBuf),
    Detach,
    Attach,

    /// Opens a session with the process of this id and shows it.
    Open(u32),
    /// Opens sessions with processes that the shown target has forked, behind it.
    Follow(Vec<u32>),
    DismissForks,
    /// Starts a program as a target and shows it.
    Launch(Vec<String>),
    /// Opens the shown target's session anew.
    Retry,
    /// Shows the open target at this position.
    Show(usize),
    /// Shows the open target so many positions further, around the end.
    ShowNext(isize),
    /// Closes the open target at this position; one that is being opened is given up.
    Close(usize),
    /// Asks which processes there are.
    ListTargets,
    /// Opens the desktop's file dialog beside the field of the open dialog.
    Pick(Wanted),
    /// Opens a source in the user's editor; the module is the one whose trace names it.
    Edit(Place, PathBuf),
    /// Opens the user's file in the editor.
    EditConfig,
    /// Writes a report about the shown target.
    Export(PathBuf),

    Select(PathBuf),
    /// Moves the selection by so many rows.
    Move(isize),
    First,
    Last,
    Sort(Column),
    /// Makes a column wider by so many points.
    Widen(Column, f32),
    ResetWidths,
    FilterStatus(Option<Status>),
    ClearFilter,
    FocusFilter,
    ToggleSystem,
    ToggleDetails,
    /// Shows this tab of the details.
    ShowDetails(details::Tab),
    /// Scrolls the details down by so many points.
    ScrollDetails(f32),
    /// Makes the details larger by so many points.
    ResizeDetails(f32),
    ToggleCompact,
    SetTheme(ThemePreference),
    ToggleTheme,
    Dialog(Dialog),
    PickTarget,
    CloseDialogs,
    DismissNotice,
    /// Orders once more what a notice says could not be done.
    TryAgain,
    DismissToast(usize),
    Copy(String),
}
