//! Tables for the terminal: columns as wide as their widest cell.

use reload_engine::model::{Class, Mark, Module, Snapshot};

use super::lines::{beyond_message, word};

/// The modules of a target; those of the system only if `all` says so or somebody marked them.
pub fn modules(snapshot: &Snapshot, all: bool) -> String {
    let target = &snapshot.target;
    let shown = |module: &&Module| {
        all || module.mark != Mark::None || matches!(module.class, Class::Executable | Class::Project)
    };
    let mut text = format!("{} ({}), auto mode {}\n", target.name, target.pid, word(&snapshot.mode));
    let header = ["module", "status", "mark", "class", "generation", "ms", "modified", "bytes", "path"];
    let mut rows = vec![header.map(str::to_owned)];
    for module in snapshot.modules.iter().filter(shown) {
        rows.push([
            module.name.clone(),
            word(&module.status),
            if module.mark == Mark::None { "-".to_owned() } else { word(&module.mark) },
            word(&module.class),
            module.generation.to_string(),
            module.last_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}")),
            module.mtime.map_or_else(|| "-".to_owned(), |time| humantime::format_rfc3339_seconds(time).to_string()),
            module.size.map_or_else(|| "-".to_owned(), |size| size.to_string()),
            module.path.display().to_string(),
        ]);
    }
    text += &columns(&rows, &[4, 5, 7]);
    for module in snapshot.modules.iter().filter(shown) {
        if let Some(unchecked) = module.unchecked() {
            text += &format!("\n{}: {unchecked}\n", module.name);
        }
        if let Some(failure) = &module.failure {
            text += &format!("\n{}: {}\n", module.name, failure.without_name(&module.name));
            for line in beyond_message(failure) {
                text += &format!("  {line}\n");
            }
        }
    }
    let hidden = snapshot.modules.iter().filter(|module| !shown(module)).count();
    if hidden > 0 {
        text += &format!("{hidden} system and protected modules more: --all\n");
    }
    text
}

/// Rows as lines; the numbered columns are set to the right.
pub fn columns<const N: usize>(rows: &[[String; N]], right: &[usize]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .enumerate()
            .map(|(index, cell)| {
                let width = widths[index];
                if right.contains(&index) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            })
            .collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::columns;

    #[test]
    fn columns_are_aligned() {
        let rows = [["name", "ms"], ["a", "10.5"], ["long name", "1.0"]].map(|row| row.map(str::to_owned));
        assert_eq!(columns(&rows, &[1]), "name         ms\na          10.5\nlong name   1.0\n");
    }
}
