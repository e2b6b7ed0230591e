//! A window whose state is the program's own, egui's, and the window system's.

use eframe::egui::{self, Color32, Sense, Vec2};

/// What one press of the button adds.
const STEP: u64 = 1;

struct Painter {
    count: u64,
    frames: u64,
    notes: String,
    strokes: Vec<Box<dyn Stroke>>,
}

trait Stroke {
    fn colour(&self) -> Color32;
}

struct Bar;

impl Stroke for Bar {
    fn colour(&self) -> Color32 {
        Color32::from_rgb(20, 160, 60)
    }
}

impl eframe::App for Painter {
    fn ui(&mut self, ui: &mut egui::Ui, _frame: &mut eframe::Frame) {
        self.frames += 1;
        egui::CentralPanel::default().show(ui, |ui| {
            ui.heading(title());
            if ui.button("Add").clicked() {
                self.count += STEP;
                self.strokes.push(Box::new(Bar));
            }
            ui.label(format!("count {} of {}", self.count, self.strokes.len()));
            ui.text_edit_singleline(&mut self.notes);
            // Whether this is open is remembered by egui alone.
            ui.collapsing("More", |ui| more(ui, self.frames));
            for stroke in &self.strokes {
                let (place, _) = ui.allocate_exact_size(Vec2::new(300.0, 12.0), Sense::hover());
                ui.painter().rect_filled(place, 2.0, stroke.colour());
            }
        });
        ui.ctx().request_repaint_after(std::time::Duration::from_millis(20));
    }
}

fn title() -> &'static str {
    "Version 1"
}

fn more(ui: &mut egui::Ui, frames: u64) {
    ui.label(if frames > 0 { "opened in version 1" } else { "never drawn" });
}

fn main() -> eframe::Result {
    let options = eframe::NativeOptions {
        viewport: egui::ViewportBuilder::default().with_inner_size([420.0, 520.0]),
        ..eframe::NativeOptions::default()
    };
    let painter = Painter { count: 0, frames: 0, notes: String::new(), strokes: Vec::new() };
    eframe::run_native("Painter", options, Box::new(|_| Ok(Box::new(painter))))
}
