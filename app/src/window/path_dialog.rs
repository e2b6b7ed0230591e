//! Dialogs that ask for a path: a library to load, a program to start, where a report goes. A field, and the desktop's own
//! dialog beside it where there is one.

use std::{env, path::PathBuf};

use eframe::egui::{Align, Align2, Context, Id, Key, Layout, Modifiers, RichText, TextEdit, Ui, vec2};

use crate::{
    desktop::Wanted,
    window::{
        action::Action,
        controls::{self, Button, Weight, palette},
        icons,
        scene::table_id,
        theme,
    },
};

/// What is typed, and how the desktop's dialog stands.
#[derive(Clone, Debug, PartialEq)]
pub struct PathField {
    pub wanted: Wanted,
    pub text: String,
    /// The desktop's file dialog is open.
    pub picking: bool,
    /// There is none here.
    no_dialog: bool,
    /// The text is not the user's typing: the field is to show its end, where paths differ.
    put: bool,
}

/// The words of one kind.
struct Words {
    title: &'static str,
    text: &'static str,
    hint: &'static str,
    button: &'static str,
}

impl PathField {
    pub fn new(wanted: Wanted) -> PathField {
        PathField::with(wanted, String::new())
    }

    pub fn with(wanted: Wanted, text: String) -> PathField {
        PathField { wanted, text, picking: false, no_dialog: false, put: true }
    }

    /// With a command to be changed.
    pub fn command(words: &[String]) -> PathField {
        let line = shlex::try_join(words.iter().map(String::as_str));
        // None of them has a NUL in it: it was typed, or has run.
        PathField::with(Wanted::Program, line.unwrap_or_default())
    }

    /// The desktop's answer; an error where it has no dialog.
    pub fn picked(&mut self, answer: Result<Option<PathBuf>, ()>) {
        self.picking = false;
        self.put = matches!(answer, Ok(Some(_)));
        match answer {
            Ok(Some(path)) if self.wanted == Wanted::Program => {
                let path = path.display().to_string();
                self.text = shlex::try_quote(&path).map_or(path.clone(), |quoted| quoted.into_owned());
            }
            Ok(Some(path)) => self.text = path.display().to_string(),
            Ok(None) => {}
            Err(()) => self.no_dialog = true,
        }
    }

    fn words(&self) -> Words {
        match self.wanted {
            Wanted::Library => Words {
                title: "Load a module",
                text: "The target opens the library with dlopen, and the module is marked for reload.",
                hint: "/path/to/library.so",
                button: "Load",
            },
            Wanted::Program => Words {
                title: "Start a program",
                text: "It is started here with the agent preloaded, and keeps the terminal of the dashboard.",
                hint: "./build/program --with arguments",
                button: "Start",
            },
            Wanted::Report => Words {
                title: "Export a report",
                text: "Modules, traces and histories of the shown target, as Markdown.",
                hint: "reload-report.md",
                button: "Export",
            },
        }
    }

    /// What the text leads to, or what is wrong with it.
    fn action(&self) -> Result<Action, &'static str> {
        let typed = self.text.trim();
        if typed.is_empty() {
            return Err("");
        }
        match self.wanted {
            Wanted::Library => match at_home(typed) {
                path if path.starts_with('/') => Ok(Action::Load(path.into())),
                _ => Err("The path must start at the root or with ~/, as the target may run in another directory."),
            },
            Wanted::Program => match shlex::split(typed) {
                Some(words) if !words.is_empty() => {
                    Ok(Action::Launch(words.iter().map(|word| at_home(word)).collect()))
                }
                _ => Err("A quotation mark is not closed."),
            },
            Wanted::Report => Ok(Action::Export(at_home(typed).into())),
        }
    }
}

/// Without one of its own, a field has its caret at the end of its text.
fn forget_caret(context: &Context, id: Id) {
    if let Some(mut state) = TextEdit::load_state(context, id) {
        state.cursor.set_char_range(None);
        state.store(context, id);
    }
}

/// `~/` as shells understand it: nobody expects a folder of that name.
fn at_home(path: &str) -> String {
    match (path.strip_prefix("~/"), env::var("HOME")) {
        (Some(rest), Ok(home)) if !home.is_empty() => format!("{}/{rest}", home.trim_end_matches('/')),
        _ => path.to_owned(),
    }
}

pub fn show(ui: &mut Ui, field: &mut PathField, actions: &mut Vec<Action>) {
    let palette = palette(ui);
    let Words { title, text, hint, button } = field.words();
    ui.label(RichText::new(title).font(theme::title()));
    ui.label(RichText::new(text).color(palette.text_secondary));
    ui.add_space(4.0);
    let enter = ui.input_mut(|input| input.consume_key(Modifiers::NONE, Key::Enter));
    let row = vec2(ui.available_width(), theme::CONTROL);
    ui.allocate_ui_with_layout(row, Layout::right_to_left(Align::Center), |ui| {
        let browse = Button::new("Browse").with_icon(icons::FOLDER).enabled(!field.picking && !field.no_dialog);
        if browse.show(ui).clicked() {
            actions.push(Action::Pick(field.wanted));
        }
        let id = Id::unique("path");
        let put = std::mem::take(&mut field.put);
        if put {
            forget_caret(ui.ctx(), id);
        }
        let edit = TextEdit::singleline(&mut field.text)
            .id(id)
            .hint_text(hint)
            .font(theme::code())
            .margin(vec2(9.0, 5.0))
            .min_size(vec2(0.0, theme::CONTROL))
            .align(Align2::LEFT_CENTER)
            .desired_width(f32::INFINITY);
        let edit = ui.add(edit);
        controls::name_field(&edit, hint);
        let idle = ui.memory(|memory| memory.focused().is_none_or(|id| id == table_id()));
        if put || (idle && !field.picking) {
            edit.request_focus();
        }
    });
    let action = field.action();
    let note = if field.no_dialog {
        "No file dialog here (no portal shows one, and there is no zenity): type the path."
    } else if field.picking {
        "Choose a file in the desktop's dialog."
    } else {
        action.as_ref().err().copied().unwrap_or_default()
    };
    ui.label(RichText::new(note).font(theme::small()).color(palette.text_secondary));
    ui.allocate_ui_with_layout(row, Layout::right_to_left(Align::Center), |ui| {
        let confirm = Button::new(button).weight(Weight::Primary).enabled(action.is_ok());
        if (confirm.show(ui).clicked() || enter)
            && let Ok(action) = action
        {
            actions.push(Action::CloseDialogs);
            actions.push(action);
        }
        if Button::new("Cancel").show(ui).clicked() {
            actions.push(Action::CloseDialogs);
        }
    });
}
