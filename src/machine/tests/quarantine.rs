//! A chain that is quarantined takes nothing until an operator releases it.

use bristlecone_machine::stamp::NamespaceLookup;
use bristlecone_machine::{Chain, Input, Limits, Namespace, Row, Stamp, step};
use bristlecone_proto::chain::{ChainId, Release, Wake, input, reply};
use bristlecone_proto::record;

#[derive(Debug)]
struct NoNamespaces;

impl NamespaceLookup for NoNamespaces {
    fn id_of(&self, _: &str) -> Option<String> {
        None
    }
}

#[test]
fn only_a_release_is_taken() {
    let (limits, namespace) = (Limits::default(), Namespace::default());
    let at = Stamp {
        now: 1,
        seed: 1,
        limits: &limits,
        namespace: &namespace,
        namespaces: &NoNamespaces,
        caller_timeout_ms: 0,
    };
    let mut chain = Chain::new(ChainId { workflow_id: "wf".into(), ..ChainId::default() });
    chain.record = Some(record::Chain {
        current_run_id: "run".into(),
        quarantined: "event ids".into(),
        ..record::Chain::default()
    });
    let refused = step(&chain, &of(input::Kind::Wake(Wake {})), &at);
    let Some(reply::Kind::Rejected(rejection)) = refused.reply.kind else { panic!("it is refused") };
    assert_eq!((rejection.code, rejection.message.as_str()), (9, "the workflow is quarantined: event ids"));
    assert!(refused.next.is_none());

    let released = step(&chain, &of(input::Kind::Release(Release {})), &at);
    let [Row::Chain(Some(record))] = released.rows.as_slice() else { panic!("one row: {:?}", released.rows) };
    assert_eq!(record.quarantined, "");
    let next = released.next.expect("the chain changed");
    assert!(step(&next, &of(input::Kind::Release(Release {})), &at).next.is_none());
}

fn of(kind: input::Kind) -> Input {
    Input { kind: Some(kind), origin: None }
}
