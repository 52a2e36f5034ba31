//! Which errors pass by themselves: the broker restarts, a leader or a coordinator moves, the group rebalances.

use std::time::{Duration, Instant};

use anyhow::Result;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// A broker restarts within a minute; after this it is an outage that someone should hear of.
const PATIENCE: Duration = Duration::from_secs(60);
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Asks until there is an answer, or an error that does not pass. Blocks.
pub(super) fn persist<T>(mut ask: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Err(error) if is_passing_within(&error) && Instant::now() < deadline => {
                tracing::warn!("{error:#}; asking again");
                std::thread::sleep(ASK_AGAIN);
            }
            found => return found,
        }
    }
}

/// Whether what is beneath all that was said of it passes.
pub(super) fn is_passing_within(error: &anyhow::Error) -> bool {
    error.downcast_ref::<KafkaError>().is_some_and(is_passing)
}

/// Whether a moment, or the rebalance under way, will cure it. What was asked for is to be asked again; what the client
/// does by itself it goes on with.
pub(super) fn is_passing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::*;
    matches!(
        error.rdkafka_error_code(),
        Some(
            // The group rebalances: after it a position is committed or not ours.
            RebalanceInProgress
                | IllegalGeneration
                | UnknownMemberId
                | AssignmentLost
                | UnstableOffsetCommit
                | StaleMemberEpoch
                | FencedMemberEpoch
                // The coordinator moves.
                | NotCoordinator
                | CoordinatorLoadInProgress
                | CoordinatorNotAvailable
                | WaitingForCoordinator
                // A partition's leader moves.
                | NotLeaderForPartition
                | LeaderNotAvailable
                | OffsetNotAvailable
                | ReplicaNotAvailable
                | KafkaStorageError
                | FencedLeaderEpoch
                | UnknownLeaderEpoch
                // The broker is gone or does not answer. The client drops its handle of one that leaves the cluster's
                // metadata, with the requests that waited for it.
                | BrokerTransportFailure
                | BrokerDestroy
                | DestroyBroker
                | AllBrokersDown
                | Resolve
                | NetworkException
                | RequestTimedOut
                | OperationTimedOut
                | TimedOutQueue
                | WaitCache
                | Retry
        )
    )
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn what_passes_is_asked_again_and_what_does_not_is_said() {
        let answers = [RDKafkaErrorCode::DestroyBroker, RDKafkaErrorCode::TopicAuthorizationFailed];
        let mut answers = answers.into_iter().map(KafkaError::MetadataFetch);
        let asked = persist(|| {
            Err::<(), _>(answers.next().expect("no third question")).context("which positions there are")
        });
        assert!(format!("{:#}", asked.unwrap_err()).contains("Topic authorization failed"));
    }
}
