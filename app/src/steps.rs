//! The stages of a reload in words, for window and terminal.

use reload_engine::model::Stage;

/// What a reload does in this stage, in words that need no knowledge of how it is done: "failed while ...".
pub fn of(stage: Stage) -> &'static str {
    match stage {
        Stage::Read => "reading the file",
        Stage::Validate => "checking the file",
        Stage::Parse => "reading its functions and data",
        Stage::Plan => "comparing it with what runs",
        Stage::Shadow => "preparing the new code",
        Stage::Load => "loading the new code",
        Stage::Bind => "connecting it to the kept state",
        Stage::Hook => "running its constructors and hooks",
        Stage::Adapt => "preparing the interpreter",
        Stage::Stop => "waiting for a safe point",
        Stage::Commit => "switching to the new code",
    }
}
