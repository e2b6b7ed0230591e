//! What can be done with one module, in a menu under the pointer: the same as its row's icons, the details' buttons and the
//! keys do.

use eframe::egui::{Popup, PopupCloseBehavior, Response, Ui};
use reload_engine::model::{Class, Mark, Module, Status};

use crate::window::{
    action::Action,
    controls::menu_line,
    dialogs::Dialog,
    keys::can_roll_back,
    scene::{Scene, toggled},
};

/// Opens with the other button of the pointer on `row`.
pub fn show(row: &Response, scene: &Scene<'_>, module: &Module, actions: &mut Vec<Action>) {
    let menu = Popup::context_menu(row).close_behavior(PopupCloseBehavior::CloseOnClick).accessible_name("Module");
    menu.show(|ui| lines(ui, scene, module, actions));
}

fn lines(ui: &mut Ui, scene: &Scene<'_>, module: &Module, actions: &mut Vec<Action>) {
    ui.set_min_width(230.0);
    ui.spacing_mut().item_spacing.y = 1.0;
    let can = scene.is_live() && module.class != Class::Protected;
    let path = || module.path.clone();
    let mut line = |text: &str, key: &str, enabled: bool, action: Action| {
        if menu_line(ui, text, key, enabled) {
            actions.push(action);
        }
    };
    let failed = matches!(module.status, Status::Failed | Status::Refused);
    let again = if failed { "Try again" } else { "Reload" };
    line(again, "R", can && module.status != Status::Reloading, Action::Reload(path()));
    if module.status == Status::Refused {
        line("Reload anyway…", "", can, Action::Dialog(Dialog::Anyway(path())));
    }
    let mark = if module.mark == Mark::Reload { "Unmark" } else { "Mark for reload" };
    line(mark, "Space", can, Action::Mark(path(), toggled(module.mark, Mark::Reload)));
    let skip = if module.mark == Mark::Skip { "Stop skipping" } else { "Skip" };
    line(skip, "S", can, Action::Mark(path(), toggled(module.mark, Mark::Skip)));
    line("Roll back", "Z", can && can_roll_back(module), Action::Rollback(path(), None));
    line("Copy the path", "Ctrl+C", true, Action::Copy(module.path.display().to_string()));
}
