//! Where a window has its place that is opened beside a program's: right of that, and on the screen as a whole. Pure.

use eframe::egui::{Rect, Vec2, pos2};

/// How far a window has come in finding its place. Window managers add their frame some time after it has opened, or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    Unplaced,
    /// As it was before it had a frame. One is looked for whenever the window is drawn, which it is not for that alone.
    WithoutFrame,
    /// For good: from here on it is the user's.
    Placed,
}

impl Fit {
    /// Where it is once it has been placed as it now is; `None` if there is nothing to place.
    pub fn next(self, framed: bool) -> Option<Fit> {
        match (self, framed) {
            (Fit::Placed, _) | (Fit::WithoutFrame, false) => None,
            (Fit::Unplaced, false) => Some(Fit::WithoutFrame),
            (Fit::Unplaced | Fit::WithoutFrame, true) => Some(Fit::Placed),
        }
    }
}

/// The corner of the frame and the size of what is in it, so that a window whose frame lies at `outer` with `inner` points of
/// content does not reach over the edge of the screen. It becomes smaller first, down to `smallest`, then it moves.
pub fn within(screen: Vec2, outer: Rect, inner: Vec2, smallest: Vec2) -> Rect {
    if outer.left() >= screen.x || outer.top() >= screen.y {
        // On another screen, whose place among them nobody tells.
        return Rect::from_min_size(outer.min, inner);
    }
    let frame = outer.size() - inner;
    let room = screen - outer.min.to_vec2() - frame;
    let size = inner.min(room).max(smallest.min(inner));
    let most = screen - size - frame;
    Rect::from_min_size(pos2(outer.left().min(most.x).max(0.0), outer.top().min(most.y).max(0.0)), size)
}

#[cfg(test)]
mod tests {
    use eframe::egui::{Rect, Vec2, pos2, vec2};

    use super::{Fit, within};

    fn check(screen: Vec2, corner: (f32, f32), size: Vec2) {
        let inner = vec2(1180.0, 800.0);
        let outer = Rect::from_min_size(pos2(704.0, 48.0), inner + vec2(2.0, 24.0));
        let expected = Rect::from_min_size(pos2(corner.0, corner.1), size);
        assert_eq!(within(screen, outer, inner, vec2(640.0, 420.0)), expected, "on {screen}");
    }

    #[test]
    fn windows_shrink_then_move_then_lie_over_the_edge() {
        check(vec2(1920.0, 1080.0), (704.0, 48.0), vec2(1180.0, 800.0));
        check(vec2(1440.0, 900.0), (704.0, 48.0), vec2(734.0, 800.0));
        check(vec2(1366.0, 768.0), (704.0, 48.0), vec2(660.0, 696.0));
        check(vec2(1024.0, 768.0), (382.0, 48.0), vec2(640.0, 696.0));
        check(vec2(600.0, 400.0), (704.0, 48.0), vec2(1180.0, 800.0));
    }

    /// Whether it had a frame each time the window was drawn, and whether it was placed then.
    fn check_fit(frames: &[(bool, bool)]) {
        let mut fit = Fit::Unplaced;
        for (round, (framed, placed)) in frames.iter().enumerate() {
            let next = fit.next(*framed);
            assert_eq!(next.is_some(), *placed, "round {round} of {frames:?}");
            fit = next.unwrap_or(fit);
        }
    }

    #[test]
    fn placed_once_without_a_frame_and_once_with_it() {
        check_fit(&[(false, true), (false, false), (true, true), (true, false), (false, false), (true, false)]);
        check_fit(&[(true, true), (true, false)]);
    }
}
