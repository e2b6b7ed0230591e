//! The table of modules. Only the rows in view are laid out; what is in which row comes from the cached index.

use std::{collections::BTreeMap, path::Path, time::SystemTime};

use eframe::egui::{
    Align2, Color32, CursorIcon, FontId, Id, Key, Modifiers, Painter, Pos2, Rangef, Rect, Response, Role, Sense,
    Stroke, Ui, UiBuilder, WidgetInfo, WidgetText, accesskit, pos2, vec2,
};
use egui_extras::{Column as Width, TableBuilder, TableRow};
use reload_engine::model::{Class, Mark, Module, Outcome, Receipt, Snapshot, Status};

use crate::window::{
    action::Action,
    controls::{self, Tabular, layout, palette, status_chip},
    details::passage,
    format, icons, row_menu,
    rows::{self, Column, Row, Sort},
    scene::{Scene, View, table_id, toggled},
    target_tab::TargetTab,
    theme::{self, Palette, TABLE_HEADER},
};

/// The columns in their order; `Name` takes what the others leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cell {
    Mark,
    Status,
    Name,
    Modified,
    Size,
    Generation,
    Last,
    Reload,
    Skip,
}

impl Cell {
    /// In points, unless the user has given it another one; `Name` needs this much at least.
    fn usual_width(self) -> f32 {
        match self {
            Cell::Mark => 38.0,
            Cell::Status => 118.0,
            Cell::Name => 158.0,
            Cell::Modified => 104.0,
            Cell::Size => 84.0,
            Cell::Generation => 60.0,
            Cell::Last => 78.0,
            Cell::Reload => 36.0,
            Cell::Skip => 42.0,
        }
    }

    fn width(self, widths: &Widths) -> f32 {
        let own = self.header().and_then(|(column, _)| widths.get(&column));
        own.copied().unwrap_or_else(|| self.usual_width())
    }

    fn column(self, widths: &Widths) -> Width {
        match self {
            Cell::Name => Width::remainder().at_least(120.0).clip(true),
            _ => Width::initial(self.width(widths)).range(Rangef::point(self.width(widths))),
        }
    }

    fn header(self) -> Option<(Column, &'static str)> {
        match self {
            Cell::Status => Some((Column::Status, "Status")),
            Cell::Name => Some((Column::Name, "Module")),
            Cell::Modified => Some((Column::Modified, "Modified")),
            Cell::Size => Some((Column::Size, "Size")),
            Cell::Generation => Some((Column::Generation, "Gen")),
            Cell::Last => Some((Column::Last, "Last")),
            Cell::Mark | Cell::Reload | Cell::Skip => None,
        }
    }
}

/// By how much keys and assistive technology widen a column, in points.
const STEP: f32 = 8.0;

/// Widths that the user has chosen, in points.
type Widths = BTreeMap<Column, f32>;

/// What there is room for: last, size and modified go first, in that order.
fn cells(width: f32, widths: &Widths) -> Vec<Cell> {
    let mut cells =
        vec![Cell::Mark, Cell::Status, Cell::Name, Cell::Modified, Cell::Size, Cell::Generation, Cell::Last];
    cells.extend([Cell::Reload, Cell::Skip]);
    for first_to_go in [Cell::Last, Cell::Size, Cell::Modified] {
        let needed: f32 = cells.iter().map(|cell| cell.width(widths)).sum();
        if needed <= width {
            break;
        }
        cells.retain(|cell| *cell != first_to_go);
    }
    cells
}

/// Makes a column wider by so many points, within what can be read and what leaves room for the others.
pub fn widen(widths: &mut Widths, column: Column, by: f32) {
    let all = [Cell::Status, Cell::Modified, Cell::Size, Cell::Generation, Cell::Last];
    let Some(cell) = all.into_iter().find(|cell| cell.header().is_some_and(|(of, _)| of == column)) else {
        return;
    };
    let width = cell.width(widths) + by;
    widths.insert(column, width.clamp(cell.usual_width() * 0.7, cell.usual_width() * 3.0));
}

pub fn show(ui: &mut Ui, scene: &Scene<'_>, view: &mut View, actions: &mut Vec<Action>) {
    let (Some(tab), Some(snapshot)) = (scene.tab(), scene.snapshot()) else {
        return;
    };
    let index = tab.index();
    let area = ui.available_rect_before_wrap();
    // Takes the keys of the table; lies behind the rows.
    let focus = ui.interact(area, table_id(), Sense::focusable_noninteractive());
    focus.widget_info(|| WidgetInfo::labeled(Role::Table, true, "Modules"));
    ui.ctx().accesskit_node_builder(focus.id, |node| node.set_row_count(index.rows.len()));
    // Rows belong to the table, for whoever does not see where they stand.
    let inside = UiBuilder::new().max_rect(area).accessibility_parent(focus.id);
    ui.scope_builder(inside, |ui| rows_and_header(ui, (tab, snapshot), scene, view, actions));
}

fn rows_and_header(
    ui: &mut Ui,
    (tab, snapshot): (&TargetTab, &Snapshot),
    scene: &Scene<'_>,
    view: &mut View,
    actions: &mut Vec<Action>,
) {
    let index = tab.index();
    let area = ui.max_rect();

    let row_height = if scene.settings.compact { theme::ROW_COMPACT } else { theme::ROW };
    view.page = ((area.height() - TABLE_HEADER) / row_height) as usize;
    let widths = &scene.settings.widths;
    let cells = cells(area.width(), widths);
    let selected = view.selected.as_ref().and_then(|path| tab.module(path)).map(|(position, _)| position);
    ui.spacing_mut().item_spacing = vec2(0.0, 0.0);
    let [figure, generation] = [theme::body(), theme::medium()].map(|font| Tabular::new(ui.painter(), font));
    // The number of columns is part of the identity: kept widths of another set would not fit.
    let mut table = TableBuilder::new(ui).id_salt(("modules", cells.len())).auto_shrink([false, false]).vscroll(true);
    table = table.min_scrolled_height(0.0).animate_scrolling(false);
    for cell in &cells {
        table = table.column(cell.column(widths));
    }
    if std::mem::take(&mut view.reveal)
        && let Some(row) = selected.and_then(|position| index.row_of(position))
    {
        // The last module brings the line of the system modules below it into view.
        let below = matches!(index.rows.get(row + 1), Some(Row::System { .. }));
        table = table.scroll_to_row(if below { row + 1 } else { row }, None);
    }
    let cells_ref = &cells;
    let numbers = Numbers { figure, generation };
    table
        .header(TABLE_HEADER, |mut row| {
            for cell in cells_ref {
                row.col(|ui| header(ui, (*cell, cell.width(&scene.settings.widths)), view.query.sort, actions));
            }
        })
        .body(|body| {
            let width = body.max_rect().x_range();
            body.rows(row_height, index.rows.len(), |mut row| match index.rows[row.index()] {
                Row::System { count, open } => system_row(&mut row, cells_ref.len(), width, count, open, actions),
                Row::Module(position) => {
                    let module = &snapshot.modules[position];
                    let line = Line { module, selected: selected == Some(position), scene, width, numbers: &numbers };
                    line.show(&mut row, cells_ref, actions);
                }
            });
        });
    let palette = palette(ui);
    ui.painter().hline(area.x_range(), area.top() + TABLE_HEADER - 0.5, Stroke::new(1.0, palette.line));
}

fn header(ui: &mut Ui, (cell, width): (Cell, f32), sort: Sort, actions: &mut Vec<Action>) {
    let Some((column, title)) = cell.header() else {
        return;
    };
    let palette = palette(ui);
    let rect = ui.max_rect();
    let response = ui.interact(rect, Id::unique(("header", title)), Sense::click());
    let sorted = sort.column == column;
    response.widget_info(|| WidgetInfo::labeled(Role::ColumnHeader, true, format!("Sort by {title}")));
    let colour = if sorted || response.hovered() { palette.text } else { palette.text_secondary };
    let painter = ui.painter();
    let text = layout(painter, title, if sorted { theme::strong() } else { theme::medium() });
    let arrow_width = if sorted { 16.0 } else { 0.0 };
    let size = text.size();
    let y = rect.center().y - size.y / 2.0;
    let right_aligned = !matches!(cell, Cell::Status | Cell::Name);
    let left = if right_aligned { rect.right() - 12.0 - size.x - arrow_width } else { rect.left() };
    painter.galley(pos2(left, y), text, colour);
    if sorted {
        let icon = if sort.reversed { icons::DOWN } else { icons::UP };
        let at = pos2(left + size.x + 4.0, rect.center().y);
        painter.text(at, Align2::LEFT_CENTER, icon, icons::filled(12.0), colour);
    }
    controls::focus_ring(painter, rect.shrink2(vec2(0.0, 3.0)), theme::RADIUS, &response, palette);
    if response.has_focus() {
        let pressed = |key| ui.input_mut(|input| input.count_and_consume_key(Modifiers::ALT, key)) as f32;
        let by = STEP * (pressed(Key::ArrowRight) - pressed(Key::ArrowLeft));
        if by != 0.0 {
            actions.push(Action::Widen(column, by));
        }
    }
    if response.on_hover_cursor(CursorIcon::PointingHand).clicked() {
        actions.push(Action::Sort(column));
    }
    edge(ui, cell, (column, title), (rect, width), actions);
}

/// The edge of a column towards the flexible one, to be dragged, or to be moved by assistive technology.
fn edge(ui: &Ui, cell: Cell, (column, title): (Column, &str), (rect, width): (Rect, f32), actions: &mut Vec<Action>) {
    let (x, direction) = match cell {
        Cell::Name => return,
        Cell::Status => (rect.right() - 2.0, 1.0),
        _ => (rect.left(), -1.0),
    };
    let palette = palette(ui);
    let grip = Rect::from_x_y_ranges(x - 4.0..=x + 4.0, rect.y_range());
    let response = ui.interact(grip, Id::unique(("edge", title)), Sense::DRAG);
    response.widget_info(|| WidgetInfo::labeled(Role::Splitter, true, format!("Width of {title}")));
    ui.ctx().accesskit_node_builder(response.id, |node| {
        node.set_numeric_value(width.into());
        node.set_numeric_value_step(STEP.into());
        node.add_action(accesskit::Action::Increment);
        node.add_action(accesskit::Action::Decrement);
    });
    let asked = |action| ui.input(|input| input.num_accesskit_action_requests(response.id, action)) as f32;
    let by = STEP * (asked(accesskit::Action::Increment) - asked(accesskit::Action::Decrement));
    if by != 0.0 {
        actions.push(Action::Widen(column, by));
    }
    if response.hovered() || response.dragged() {
        let colour = if response.dragged() { palette.accent_text } else { palette.line_strong };
        let line = rect.shrink2(vec2(0.0, 7.0)).y_range();
        ui.painter().with_clip_rect(ui.ctx().content_rect()).vline(x, line, Stroke::new(2.0, colour));
    }
    let response = response.on_hover_cursor(CursorIcon::ResizeHorizontal);
    // The edge follows the pointer, wherever that has been before.
    if response.drag_delta().x != 0.0
        && let Some(at) = response.interact_pointer_pos()
    {
        actions.push(Action::Widen(column, direction * (at.x - x)));
    }
}

fn system_row(
    row: &mut TableRow<'_, '_>,
    columns: usize,
    width: Rangef,
    count: usize,
    open: bool,
    actions: &mut Vec<Action>,
) {
    for column in 0..columns {
        row.col(|ui| {
            if column > 0 {
                return;
            }
            let palette = palette(ui);
            let rect = Rect::from_x_y_ranges(width, ui.max_rect().y_range());
            let response = ui.interact(rect, Id::unique("system modules"), Sense::click());
            let text = format::count(count, "system module", "system modules");
            let name = if open { format!("Hide {text}") } else { format!("Show {text}") };
            response.widget_info(|| WidgetInfo::labeled(Role::Button, true, &name));
            let fill = if response.hovered() { palette.row_hover } else { palette.canvas };
            let painter = ui.painter();
            painter.rect_filled(rect, 0.0, fill);
            painter.hline(rect.x_range(), rect.bottom() - 0.5, Stroke::new(1.0, palette.line));
            let middle = rect.center().y;
            let icon = if open { icons::DOWN } else { icons::RIGHT };
            let colour = palette.text_secondary;
            painter.text(pos2(rect.left() + 18.0, middle), Align2::CENTER_CENTER, icon, icons::outline(14.0), colour);
            let at = pos2(rect.left() + 38.0, middle);
            let text = painter.text(at, Align2::LEFT_CENTER, text, theme::medium(), colour);
            let at = pos2(text.right() + 10.0, middle);
            let note = "the system's own, left alone unless marked";
            let room = rect.right() - at.x - 12.0;
            controls::line(painter, at, Align2::LEFT_CENTER, note, theme::small(), palette.text_weak, room);
            controls::focus_ring(painter, rect, theme::RADIUS, &response, palette);
            if response.on_hover_cursor(CursorIcon::PointingHand).clicked() {
                actions.push(Action::ToggleSystem);
            }
        });
    }
}

/// One module's row while it is being painted.
struct Line<'a> {
    module: &'a Module,
    selected: bool,
    scene: &'a Scene<'a>,
    width: Rangef,
    numbers: &'a Numbers,
}

/// How the numbers of all rows are painted.
struct Numbers {
    figure: Tabular,
    generation: Tabular,
}

impl Line<'_> {
    fn show(&self, row: &mut TableRow<'_, '_>, cells: &[Cell], actions: &mut Vec<Action>) {
        let mut background = Color32::TRANSPARENT;
        for cell in cells {
            row.col(|ui| {
                if *cell == Cell::Mark {
                    // The first cell brings the whole row: what follows lies above it.
                    background = self.base(ui, actions);
                }
                self.cell(ui, *cell, background, actions);
            });
        }
    }

    /// Background, selection and the click anywhere on the row.
    fn base(&self, ui: &Ui, actions: &mut Vec<Action>) -> Color32 {
        let palette = palette(ui);
        let module = self.module;
        let rect = Rect::from_x_y_ranges(self.width, ui.max_rect().y_range());
        let response = ui.interact(rect, Id::unique(("module", &module.path)), Sense::CLICK);
        let state = icons::status_word(module.status);
        let name = match warnings(module).len() {
            0 => format!("{}, {state}", module.name),
            n => format!("{}, {state}, {}", module.name, format::count(n, "warning", "warnings")),
        };
        response.widget_info(|| WidgetInfo::labeled(Role::Row, true, &name));
        ui.ctx().accesskit_node_builder(response.id, |node| {
            node.set_selected(self.selected);
            node.set_description(self.spoken());
        });
        if self.selected {
            // The keyboard is with the table; where it stands in there is this row.
            let row = response.id.accesskit_id();
            ui.ctx().accesskit_node_builder(table_id(), |node| node.set_active_descendant(row));
        }
        let hovered = ui.rect_contains_pointer(rect);
        let background = match (self.selected, hovered) {
            (true, _) => palette.row_selected,
            (false, true) => palette.row_hover,
            (false, false) => palette.canvas,
        };
        let painter = ui.painter();
        painter.rect_filled(rect, 0.0, background);
        painter.hline(rect.x_range(), rect.bottom() - 0.5, Stroke::new(1.0, palette.line));
        if self.selected {
            let edge = Rect::from_min_max(rect.min, pos2(rect.left() + 3.0, rect.bottom()));
            painter.rect_filled(edge, 0.0, palette.accent_text);
        }
        if response.clicked() || response.secondary_clicked() {
            actions.push(Action::Select(module.path.clone()));
        }
        row_menu::show(&response, self.scene, module, actions);
        background
    }

    /// What its cells show, for whoever does not see them.
    fn spoken(&self) -> String {
        let module = self.module;
        let modified = module.mtime.map_or_else(|| "gone".to_owned(), |time| self.scene.age(time));
        let size = module.size.map_or_else(String::new, |size| format!(", {}", format::size(size)));
        let last = module.last_ms.map_or_else(String::new, |ms| format!(", last reload {}", format::milliseconds(ms)));
        let (path, generation) = (module.path.display(), module.generation);
        let behind = if is_behind(module) { ", not what runs" } else { "" };
        format!("{path}, modified {modified}{size}{behind}, generation {generation}{last}")
    }

    fn cell(&self, ui: &mut Ui, cell: Cell, background: Color32, actions: &mut Vec<Action>) {
        let palette = palette(ui);
        let module = self.module;
        let rect = ui.max_rect();
        let middle = rect.center().y;
        let right = pos2(rect.right() - 12.0, middle);
        match cell {
            Cell::Mark => self.mark(ui, actions),
            Cell::Status => {
                let told = |text: &str| passage::text(text, [theme::body(), theme::code()], palette.text);
                let at = pos2(rect.left(), middle);
                let chip = status_chip(ui.painter(), palette, at, module.status, background);
                if let Some(failure) = &module.failure {
                    hover(ui, chip, (&module.path, "status"), told(&failure.message));
                }
                let warnings = warnings(module);
                let sign = if is_behind(module) {
                    Some((icons::CHANGED, icons::filled(15.0), NOT_WHAT_RUNS.to_owned()))
                } else {
                    (!warnings.is_empty()).then(|| (icons::WARNING, icons::outline(15.0), warnings.join("\n")))
                };
                if let Some((icon, font, text)) = sign.filter(|_| chip.right() + 22.0 <= rect.right()) {
                    let at = pos2(chip.right() + 5.0, middle);
                    let sign = ui.painter().text(at, Align2::LEFT_CENTER, icon, font, palette.changed);
                    hover(ui, sign.expand(3.0), (&module.path, "sign"), told(&text));
                }
            }
            Cell::Name => self.name(ui.painter(), palette, rect),
            Cell::Modified => {
                let (text, exact) = match module.mtime {
                    Some(time) => (self.scene.age(time), Some(self.scene.exact(time))),
                    None => ("–".to_owned(), None),
                };
                let fresh = module.mtime.is_some_and(|time| is_fresh(time, self.scene.now));
                let colour = if fresh { palette.text } else { palette.text_secondary };
                self.numbers.figure.paint(ui.painter(), right, &text, colour);
                if let Some(exact) = exact {
                    hover(ui, rect, (&module.path, "modified"), exact);
                }
            }
            Cell::Size => {
                let text = module.size.map_or_else(|| "–".to_owned(), format::size);
                self.numbers.figure.paint(ui.painter(), right, &text, palette.text_secondary);
            }
            Cell::Generation => {
                let colour = if module.generation.0 > 0 { palette.text } else { palette.text_secondary };
                self.numbers.generation.paint(ui.painter(), right, &module.generation.to_string(), colour);
            }
            Cell::Last => {
                let text = module.last_ms.map_or_else(|| "–".to_owned(), format::milliseconds);
                self.numbers.figure.paint(ui.painter(), right, &text, palette.text_secondary);
            }
            Cell::Reload => {
                let enabled =
                    self.scene.is_live() && module.class != Class::Protected && module.status != Status::Reloading;
                let name = format!("Reload {}", module.name);
                let colour = if enabled { palette.text_secondary } else { palette.icon_disabled };
                let icon = IconCell { icon: icons::RELOAD, font: icons::outline(17.0), colour, enabled, on: None };
                let hint = match (module.class, module.status) {
                    (Class::Protected, _) => "Protected: can never be reloaded".to_owned(),
                    (_, Status::Reloading) => "It is being reloaded".to_owned(),
                    _ => format!("{name} (R)"),
                };
                if icon.show(ui, &name, &hint, (&module.path, "reload")).clicked() {
                    actions.push(Action::Reload(module.path.clone()));
                }
            }
            Cell::Skip => {
                let skipped = module.mark == Mark::Skip;
                let enabled = self.scene.is_live() && module.class != Class::Protected;
                let name = format!("Skip {}", module.name);
                let hint =
                    if skipped { "Skipped; again to stop skipping (S)" } else { "Skip: never reload by itself (S)" };
                let colour = match (enabled, skipped) {
                    (_, true) => palette.accent_text,
                    (true, false) => palette.text_secondary,
                    (false, false) => palette.icon_disabled,
                };
                let icon =
                    IconCell { icon: icons::SKIP, font: icons::outline(17.0), colour, enabled, on: Some(skipped) };
                if icon.show(ui, &name, hint, (&module.path, "skip")).clicked() {
                    actions.push(Action::Mark(module.path.clone(), toggled(module.mark, Mark::Skip)));
                }
            }
        }
    }

    fn mark(&self, ui: &mut Ui, actions: &mut Vec<Action>) {
        let palette = palette(ui);
        let module = self.module;
        let marked = module.mark == Mark::Reload;
        let enabled = self.scene.is_live() && module.class != Class::Protected;
        let (font, colour) = match (marked, enabled) {
            (true, _) => (icons::filled(17.0), palette.accent_text),
            (false, true) => (icons::outline(17.0), palette.text_weak),
            (false, false) => (icons::outline(17.0), palette.icon_disabled),
        };
        let hint = match module.class {
            Class::Protected => "Protected: can never be reloaded",
            _ if marked => "Marked for reload; again to unmark (Space)",
            _ => "Mark for reload (Space)",
        };
        let icon = IconCell { icon: icons::MARK, font, colour, enabled, on: Some(marked) };
        if icon.show(ui, &format!("Mark {}", module.name), hint, (&module.path, "mark")).clicked() {
            actions.push(Action::Mark(module.path.clone(), toggled(module.mark, Mark::Reload)));
        }
    }

    fn name(&self, painter: &Painter, palette: &Palette, rect: Rect) {
        let module = self.module;
        let quiet = module.status == Status::Skipped || rows::is_folded(module);
        let colour = if quiet { palette.text_secondary } else { palette.text };
        let room = rect.width() - 12.0;
        let font = theme::code_small();
        let name = controls::fit_name(painter, &module.name, &theme::medium(), room);
        let path = module.path.to_string_lossy();
        let folder = folder(&path, &module.name);
        let middle = rect.center().y;
        if self.scene.settings.compact {
            let at = Align2::LEFT_CENTER.anchor_size(pos2(rect.left(), middle), name.size());
            painter.galley(at.min, name, colour);
            let left = at.right() + 12.0;
            if rect.right() - left > 80.0 {
                let folder = controls::fit_path(painter, folder, &font, rect.right() - 12.0 - left);
                painter.text(pos2(left, middle), Align2::LEFT_CENTER, folder, font, palette.text_weak);
            }
        } else {
            let at = Align2::LEFT_BOTTOM.anchor_size(pos2(rect.left(), middle + 0.5), name.size());
            painter.galley(at.min, name, colour);
            let folder = controls::fit_path(painter, folder, &font, room);
            painter.text(pos2(rect.left(), middle + 2.0), Align2::LEFT_TOP, folder, font, palette.text_weak);
        }
    }
}

/// An icon that fills its cell and can be clicked. Not a stop of the Tab key: rows are reached with the arrows, and what these
/// icons do has a key.
struct IconCell {
    icon: char,
    font: FontId,
    colour: Color32,
    enabled: bool,
    on: Option<bool>,
}

impl IconCell {
    fn show(&self, ui: &Ui, name: &str, hint: &str, id: (&Path, &str)) -> Response {
        let palette = palette(ui);
        let rect = ui.max_rect();
        let sense = if self.enabled { Sense::CLICK } else { Sense::hover() };
        let response = ui.interact(rect, Id::unique(("module", id)), sense);
        response.widget_info(|| match self.on {
            Some(on) => WidgetInfo::selected(Role::Button, self.enabled, on, name),
            None => WidgetInfo::labeled(Role::Button, self.enabled, name),
        });
        let painter = ui.painter();
        let over = self.enabled && response.hovered();
        let centre: Pos2 = rect.center();
        if over {
            painter.rect_filled(Rect::from_center_size(centre, vec2(26.0, 26.0)), theme::RADIUS, palette.raised_hover);
        }
        let colour = if over { palette.accent_text } else { self.colour };
        painter.text(centre, Align2::CENTER_CENTER, self.icon, self.font.clone(), colour);
        let response = if self.enabled { response.on_hover_cursor(CursorIcon::PointingHand) } else { response };
        controls::hint(response, hint)
    }
}

/// Tells more about a part of a row while the pointer is over it.
fn hover(ui: &Ui, rect: Rect, id: (&Path, &str), text: impl Into<WidgetText>) {
    controls::hint(ui.interact(rect, Id::unique(("module", id)), Sense::hover()), text);
}

/// Where a module lies. Its file is named beside it, unless that has another name.
fn folder<'a>(path: &'a str, name: &str) -> &'a str {
    match path.strip_suffix(name).and_then(|folder| folder.strip_suffix('/')) {
        Some("") => "/",
        Some(folder) => folder,
        None => path,
    }
}

/// What the reload that brought the running generation warned of.
fn warnings(module: &Module) -> &[String] {
    let runs = |receipt: &&Receipt| receipt.outcome == Outcome::Reloaded && receipt.generation == module.generation;
    let receipt = module.history.iter().rev().map(|entry| &entry.receipt).find(runs);
    receipt.map_or(&[], |receipt| &receipt.warnings)
}

const NOT_WHAT_RUNS: &str = "The file on disk is not what runs";

/// Whether it is skipped although there would be something to reload.
fn is_behind(module: &Module) -> bool {
    module.status == Status::Skipped && module.differs
}

/// Changed within the last ten minutes: what one is working on.
fn is_fresh(time: SystemTime, now: SystemTime) -> bool {
    now.duration_since(time).is_ok_and(|age| age.as_secs() < 600)
}

#[cfg(test)]
mod tests {
    use super::{Cell, Column, Widths, cells, folder, widen};

    #[test]
    fn narrow_tables_drop_last_then_size_then_modified() {
        let check = |width: f32, widths: &Widths, absent: &[Cell]| {
            let cells = cells(width, widths);
            for cell in [Cell::Last, Cell::Size, Cell::Modified] {
                assert_eq!(!cells.contains(&cell), absent.contains(&cell), "{cell:?} at {width}");
            }
            assert!(cells.ends_with(&[Cell::Reload, Cell::Skip]), "actions are always there");
        };
        let usual = Widths::new();
        check(900.0, &usual, &[]);
        check(700.0, &usual, &[Cell::Last]);
        check(600.0, &usual, &[Cell::Last, Cell::Size]);
        check(500.0, &usual, &[Cell::Last, Cell::Size, Cell::Modified]);
        check(850.0, &Widths::from([(Column::Size, 250.0)]), &[Cell::Last]);
    }

    #[test]
    fn a_file_is_named_once() {
        assert_eq!(folder("/build/plugins/liba.so", "liba.so"), "/build/plugins");
        assert_eq!(folder("/liba.so", "liba.so"), "/");
        assert_eq!(folder("/build/my-liba.so", "liba.so"), "/build/my-liba.so");
        assert_eq!(folder("liba.so", "liba.so"), "liba.so");
    }

    #[test]
    fn columns_stay_readable_and_leave_room() {
        let mut widths = Widths::new();
        widen(&mut widths, Column::Size, 20.0);
        assert_eq!(widths[&Column::Size], 104.0);
        widen(&mut widths, Column::Size, -500.0);
        assert_eq!(widths[&Column::Size], 84.0 * 0.7);
        widen(&mut widths, Column::Size, 5000.0);
        assert_eq!(widths[&Column::Size], 84.0 * 3.0);
        widen(&mut widths, Column::Name, 50.0);
        assert_eq!(widths.len(), 1, "the flexible column takes what is left");
    }
}
