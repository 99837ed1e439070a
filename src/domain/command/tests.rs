use std::time::Duration;

use super::*;

#[test]
fn a_ticket_answers_exactly_once() {
    let (answers, mut inbox) = mpsc::unbounded_channel();
    Ticket::new(TicketId(1), answers.clone()).answer(Err(CommandError::superseded()));
    drop(Ticket::new(TicketId(2), answers));

    let first = inbox.try_recv().unwrap();
    assert_eq!(
        (first.id, first.outcome.unwrap_err().code),
        (TicketId(1), ErrorCode::Superseded)
    );
    let second = inbox.try_recv().unwrap();
    assert_eq!(
        (second.id, second.outcome.unwrap_err().code),
        (TicketId(2), ErrorCode::ShuttingDown)
    );
    assert!(inbox.try_recv().is_err());
}

#[test]
fn several_outlets_fail_together_and_each_says_what_became_of_it() {
    let path = |text: &str| text.parse::<OutletPath>().unwrap();
    let on = |text: &str| {
        let outlets = vec![(path(text), Some(Power::On))];
        (path(text), Ok(Applied { outlets, attempts: 2 }))
    };
    let (answers, mut inbox) = mpsc::unbounded_channel();
    Ticket::new(TicketId(1), answers.clone()).answer_members(vec![on("mats/1"), on("lamp")]);
    let done = inbox.try_recv().unwrap().outcome.unwrap();
    assert_eq!((done.outlets.len(), done.attempts), (2, 2));

    let failure = CommandError {
        attempts: 3,
        ..CommandError::bridge(ErrorCode::NoAnswer, "no answer")
    };
    let members = vec![on("mats/1"), (path("lamp"), Err(failure))];
    Ticket::new(TicketId(2), answers).answer_members(members.clone());
    let answer = inbox.try_recv().unwrap();
    assert_eq!(answer.members, members);
    let failure = answer.outcome.unwrap_err();
    assert_eq!((failure.code, failure.attempts), (ErrorCode::NoAnswer, 3));
    assert_eq!(failure.message, "lamp: no answer");
}

#[test]
fn what_may_have_been_done_is_never_called_undone() {
    let (answers, mut inbox) = mpsc::unbounded_channel();
    let mut answered = |answer: fn(Ticket)| {
        let mut ticket = Ticket::new(TicketId(1), answers.clone());
        ticket.may_be_done(2);
        answer(ticket);
        let failure = inbox.try_recv().unwrap().outcome.unwrap_err();
        (failure.code, failure.attempts)
    };
    let expired = |ticket: Ticket| ticket.answer(Err(CommandError::expired(Duration::from_secs(1), "test")));
    assert_eq!(answered(expired), (ErrorCode::NoAnswer, 2));
    assert_eq!(
        answered(|ticket| ticket.answer(Err(CommandError::superseded()))),
        (ErrorCode::Superseded, 2)
    );
    assert_eq!(answered(drop), (ErrorCode::ShuttingDown, 2));
}
