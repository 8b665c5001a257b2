//! One fault after another, drawn at random, for as long as is asked for.

use std::time::Duration;

use bristlecone_cluster_tests::limits::Limit;
use bristlecone_cluster_tests::wait::pass;
use rand::RngExt;

use super::{PROGRESS, WELL_AGAIN, cuts, rounds};

const CPU_PERCENT: u32 = 10;

#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill,
    KillAll,
    Restart,
    Hang,
    CutOff,
    Mute,
    Starve,
    Replace,
}

const FAULTS: [Fault; 8] = [
    Fault::Kill,
    Fault::KillAll,
    Fault::Restart,
    Fault::Hang,
    Fault::CutOff,
    Fault::Mute,
    Fault::Starve,
    Fault::Replace,
];

#[tokio::test(flavor = "multi_thread")]
async fn f25_one_fault_after_another() {
    let Some((network, mut stage)) = cuts::set("soak").await else { return };
    let rounds = rounds(8);
    let mut drawn = [0; FAULTS.len()];
    let first = stage.memory();
    for round in 0..rounds {
        let (kind, victim, length) = {
            let mut rng = rand::rng();
            (rng.random_range(0..FAULTS.len()), rng.random_range(1..=3), rng.random_range(300..=6_000))
        };
        let length = Duration::from_millis(length);
        drawn[kind] += 1;
        println!("round {round}: {:?} of node {victim}, {length:?}", FAULTS[kind]);
        let id = stage.cluster.id_of(victim).await;
        let shards = stage.shards().await;
        stage.measure();
        match FAULTS[kind] {
            Fault::Kill => {
                stage.cluster.node(victim).kill();
                stage.probes.wait_answering(WELL_AGAIN).await;
                stage.cluster.node(victim).start().expect("the program starts");
            }
            Fault::KillAll => {
                for number in stage.cluster.numbers() {
                    stage.cluster.node(number).kill();
                }
                for number in stage.cluster.numbers() {
                    stage.cluster.node(number).start().expect("the program starts");
                }
            }
            Fault::Restart => {
                assert!(stage.cluster.node(victim).stop().await.success());
                stage.cluster.node(victim).start().expect("the program starts");
            }
            Fault::Hang => {
                stage.cluster.node(victim).pause();
                pass(length).await;
                stage.cluster.node(victim).resume();
            }
            Fault::CutOff => {
                network.cut(victim);
                pass(length).await;
                network.heal(victim);
            }
            Fault::Mute => {
                network.mute(victim);
                pass(length).await;
                network.unmute(victim);
            }
            Fault::Starve => {
                let limit = Limit::cpu(CPU_PERCENT).expect("namespaces need root, and so does this");
                limit.hold(stage.cluster.node(victim).pid().expect("it runs")).expect("it runs");
                pass(length).await;
            }
            Fault::Replace => {
                stage.cluster.node(victim).kill();
                stage.swap(victim, id);
            }
        }
        stage.load.wait_for(PROGRESS).await;
        stage.recover().await;
        stage.note(&shards);
    }
    let last = stage.memory();
    let drawn: Vec<String> = FAULTS.iter().zip(drawn).map(|(fault, times)| format!("{fault:?} {times}")).collect();
    stage.remarks.push(format!("{}; memory of a node {first} MiB at first, {last} at last", drawn.join(", ")));
    stage.clear("F-25 one fault after another", rounds).await;
}
