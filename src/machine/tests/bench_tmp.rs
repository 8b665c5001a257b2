#![allow(deprecated)]
mod shell;
use bristlecone_machine::*;
use bristlecone_machine::stamp::*;
use bristlecone_proto::chain::{*, input::Kind};
use bristlecone_proto::temporal::api::workflowservice::v1::*;
use bristlecone_proto::temporal::api::common::v1::*;
use bristlecone_proto::temporal::api::command::v1::*;
use bristlecone_proto::temporal::api::command::v1::command::Attributes as A;
use bristlecone_proto::temporal::api::enums::v1::*;
use bristlecone_proto::temporal::api::taskqueue::v1::*;
#[derive(Debug)] struct N; impl NamespaceLookup for N { fn id_of(&self,_:&str)->Option<String>{None} }
fn i(kind: Kind)->Input{Input{kind:Some(kind),origin:None}}
#[test] fn bench(){
  let limits=Limits::default(); let ns=Namespace{id:"n".into(),name:"default".into(),..Default::default()};
  let start=i(Kind::Start(StartWorkflowExecutionRequest{workflow_id:"wf".into(),workflow_type:Some(WorkflowType{name:"T".into()}),task_queue:Some(TaskQueue{name:"q".into(),..Default::default()}),request_id:"req".into(),
    input:Some(Payloads{payloads:vec![Payload{metadata:[("encoding".to_string(),bytes::Bytes::from_static(b"json/plain"))].into(),data:bytes::Bytes::from_static(b"{\"a\":1}"),..Default::default()}]}),..Default::default()}));
  let at=|now|Stamp{now,seed:7,limits:&limits,namespace:&ns,namespaces:&N,caller_timeout_ms:0};
  let n=20000; let mut t=[std::time::Duration::ZERO;6];
  for k in 0..n {
    let c=Chain::new(ChainId{namespace_id:"n".into(),workflow_id:"wf".into(),namespace:"default".into()});
    let b=std::time::Instant::now(); let s=step(&c,&start,&at(shell::START)); t[0]+=b.elapsed(); let mut c2=s.next.unwrap(); drop(c); c2.settle();
    let run=c2.runs.keys().next().unwrap().clone();
    let take=i(Kind::StartWorkflowTask(StartWorkflowTask{run_id:run.clone(),scheduled_event_id:2,attempt:1,stamp:0,poll:Some(Poll{request_id:"p".into(),identity:"w".into(),queue:Some(TaskQueue{name:"q".into(),..Default::default()}),..Default::default()})}));
    let b=std::time::Instant::now(); let s=step(&c2,&take,&at(shell::START)); t[1]+=b.elapsed();
    let Some(bristlecone_proto::chain::reply::Kind::WorkflowTaskStarted(st))=s.reply.kind else{panic!()};
    let mut c3=s.next.unwrap(); drop(c2); c3.settle();
    let complete=i(Kind::CompleteWorkflowTask(CompleteWorkflowTask{token:st.token.clone(),request:Some(RespondWorkflowTaskCompletedRequest{identity:"w".into(),sticky_attributes:Some(StickyExecutionAttributes{worker_task_queue:Some(TaskQueue{name:"sq".into(),..Default::default()}),schedule_to_start_timeout:Some(stamp::duration(5_000_000_000))}),return_new_workflow_task:true,commands:vec![Command{command_type:CommandType::ScheduleActivityTask as i32,attributes:Some(A::ScheduleActivityTaskCommandAttributes(ScheduleActivityTaskCommandAttributes{activity_id:"1".into(),activity_type:Some(ActivityType{name:"A".into()}),task_queue:Some(TaskQueue{name:"q".into(),..Default::default()}),start_to_close_timeout:Some(stamp::duration(5_000_000_000)),..Default::default()})),..Default::default()}],..Default::default()})}));
    let b=std::time::Instant::now(); let s=step(&c3,&complete,&at(shell::START)); t[2]+=b.elapsed(); let mut c4=s.next.unwrap(); drop(c3); c4.settle();
    let sa=i(Kind::StartActivity(StartActivity{run_id:run.clone(),scheduled_event_id:5,attempt:1,stamp:0,poll:Some(Poll{request_id:"p".into(),identity:"w".into(),queue:Some(TaskQueue{name:"q".into(),..Default::default()}),..Default::default()})}));
    let b=std::time::Instant::now(); let s=step(&c4,&sa,&at(shell::START)); t[3]+=b.elapsed(); let mut c5=s.next.unwrap(); drop(c4); c5.settle();
    let ca=i(Kind::CompleteActivity(CompleteActivity{activity:Some(ActivityRef{run_id:run.clone(),scheduled_event_id:5,attempt:1,..Default::default()}),identity:"w".into(),..Default::default()}));
    let b=std::time::Instant::now(); let s=step(&c5,&ca,&at(shell::START)); t[4]+=b.elapsed(); let mut c6=s.next.unwrap(); drop(c5);
    let b=std::time::Instant::now(); c6.settle(); t[5]+=b.elapsed(); if k==0 {println!("{:?}",s.reply);}
  }
  for (name,t) in ["start","take","complete","start-act","complete-act","settle"].iter().zip(t){println!("{name}: {:?}",t/n);}
}
