//! Whether a replica's probes say that it lives: several in a row change its state, one does not.

use parking_lot::Mutex;

use crate::config::Health;

/// Results of one replica's probes; it is taken to be well until they say otherwise.
#[derive(Debug, Default)]
pub struct Probes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    ill: bool,
    /// Probes in a row that speak against the state.
    against: u32,
}

impl Probes {
    /// Notes what a probe found; true where the state has changed.
    pub fn record(&self, settings: &Health, well: bool) -> bool {
        let mut state = self.0.lock();
        if well != state.ill {
            state.against = 0;
            return false;
        }
        state.against += 1;
        let enough = if state.ill { settings.healthy } else { settings.unhealthy };
        let turns = enough <= state.against;
        if turns {
            *state = State { ill: !state.ill, against: 0 };
        }
        turns
    }

    pub fn is_unhealthy(&self) -> bool {
        self.0.lock().ill
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_several_in_a_row_change_anything() {
        let (every, timeout) = (Duration::from_secs(10), Duration::from_secs(2));
        let settings = Health { every, timeout, unhealthy: 3, healthy: 2 };
        let probes = Probes::default();
        for (well, ill) in [
            (false, false),
            (false, false),
            (true, false),
            (false, false),
            (false, false),
            (false, true),
            (true, true),
            (false, true),
            (true, true),
            (true, false),
            (true, false),
        ] {
            let before = probes.is_unhealthy();
            assert_eq!(probes.record(&settings, well), before != ill);
            assert_eq!(probes.is_unhealthy(), ill);
        }
    }
}
