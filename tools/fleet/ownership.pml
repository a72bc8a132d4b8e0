// Who may act for a job of a fleet: a model that spin checks in every order of its steps (tests/rules/ownership_test.py).
//
// One job, three queens, two workers. The store holds the job's record: its owner, an epoch, the worker that is asked to
// run it and which process of that worker, and the number that the worker's first event has in the job's stream.
// - A queen changes the record only while it is as she knows it (the store compares revisions).
// - The record names the worker before the worker is asked.
// - Whoever takes a job over adds one to its epoch, and asks the recorded worker before any other.
// - A worker refuses orders of an older epoch than it has heard of; orders for a process that it is not; and, once it
//   has said that it has no seat, that epoch. It runs a job once: asked again, it says that it has it.
// - Where the recorded process is gone, what it ran is lost: the job ends, and is not run again.
// - The first event's number is in the record before an event is passed on (-DNUMBERS).
// Anything may happen between two steps. A queen stops for any time, or for ever, which is how one that was killed
// looks; one that begins again takes jobs over like any other. A job is taken over at any time: a lease may end while its
// queen acts. A worker is killed. Messages take any time, overtake each other and are lost, and so are answers.
// Not modelled: seats, which a worker counts alone and in one step; payloads: a queen without one asks whether the job is
// there, which has an order's answers but `granted`; that a worker forgets jobs long after they have ended.
//
// What must hold is in the assertions. Each rule can be left out (-DNO_FENCE and so on): spin then finds steps by which
// an assertion fails. -DREACHED asserts that no job that ran ends after two changes of its owner: spin must find one.

#ifndef QUEENS
#define QUEENS 3
#endif
#define MESSAGES 2
#define WORKERS 2
#define NONE 9
#ifndef EPOCHS
#define EPOCHS 3
#endif
#define PROCESSES 2  // of each worker

mtype = { nothing, granted, has_it, no_seat, refused, gone };

// The record.
bool ended;
byte owner, epoch = 1, at = NONE, at_process, base;

// The workers: which process each is now, what it refuses, whether it has the job.
byte process[WORKERS], fence[WORKERS];
bool has[WORKERS];

// Orders on their way.
typedef Message {
  bool used;
  byte from, to, to_process, of_epoch;
};
Message message[MESSAGES];

// Queens: the message that each waits for (1 on; 0: none), and what she was told.
byte waits[QUEENS];
mtype told[QUEENS] = nothing;

// What is asserted of.
byte runs, acted, number;

#ifdef NO_COMPARE
#define AS_KNOWN (!ended)
#else
#define AS_KNOWN (!ended && owner == q && epoch == e)
#endif
#ifdef NO_PROCESS
#define ANOTHER(i) (false)
#else
#define ANOTHER(i) (message[i].to_process != process[me])
#endif
#ifdef NO_FENCE
#define TOO_OLD(i) (false)
#else
#define TOO_OLD(i) (message[i].of_epoch < fence[me])
#endif
#define RUNS_IT (mine && (told[q] == granted || told[q] == has_it))

inline forget() {
  mine = false; e = 0; w = NONE; k = 0; b = 0; waits[q] = 0; told[q] = nothing
}

inline send() {
  if
  :: !message[0].used -> slot = 0
  :: else -> slot = 1
  fi;
  message[slot].used = true; message[slot].from = q; message[slot].to = w;
  message[slot].to_process = k; message[slot].of_epoch = e;
  waits[q] = slot + 1; told[q] = nothing; slot = 0
}
#define ROOM (!message[0].used || !message[1].used)

inline choose(worker) {
#ifdef SEND_FIRST
  if
  :: AS_KNOWN -> w = worker; k = process[worker]; told[q] = nothing
  :: else -> forget()
  fi
#else
  if
  :: AS_KNOWN -> w = worker; k = process[worker]; at = w; at_process = k; told[q] = nothing
  :: else -> forget()
  fi
#endif
}

proctype Queen(byte q) {
  bool mine;           // she believes that the job is hers
  byte e, w, k, b;     // as she knows the record: epoch, worker, process, base
  byte slot;
  w = NONE;
  if
  :: q == 0 -> mine = true; e = 1  // a client's request: the record has been made
  :: else
  fi;
  do
  // The owner's lease has ended: anybody takes the job over, herself too.
  :: d_step { !ended && epoch < EPOCHS ->
       owner = q; epoch = epoch + 1; forget(); mine = true; e = epoch; w = at; k = at_process; b = base }
  // She chooses a worker: the first (both are alike), or the other when one has no seat.
  :: d_step { mine && (w == NONE || (w == 1 && told[q] == no_seat)) -> choose(0) }
  :: d_step { mine && w == 0 && told[q] == no_seat -> choose(1) }
  // She asks the worker that the record names; again, where no answer comes.
  :: d_step { mine && w != NONE && waits[q] == 0 && told[q] == nothing && ROOM -> send() }
  :: d_step { waits[q] != 0 -> waits[q] = 0 }
#ifdef SEND_FIRST
  :: d_step { mine && w != NONE && (at != w || at_process != k) && AS_KNOWN -> at = w; at_process = k }
#endif
  // That process is no more, or another queen owns the job.
  :: d_step { mine && told[q] == gone ->
       if
       :: AS_KNOWN -> ended = true
       :: else
       fi;
       forget() }
  :: d_step { mine && told[q] == refused -> forget() }
#ifdef NUMBERS
  // The worker has the job: the first event's number is written, then events are passed on.
#ifdef BASE_LATE
  :: d_step { RUNS_IT && b == 0 -> b = q + 1 }
#else
  :: d_step { RUNS_IT && b == 0 ->
       if
       :: AS_KNOWN -> b = q + 1; base = b
       :: else -> forget()
       fi }
#endif
  :: d_step { RUNS_IT && b != 0 && number == 0 -> number = b }
  :: d_step { RUNS_IT && b != 0 && number != 0 && number != b -> assert(false) }  // an event has one number
#ifdef BASE_LATE
  :: d_step { RUNS_IT && number != 0 && base == 0 && AS_KNOWN -> base = b }
#endif
#endif
  // She asks again, as when its client wants it cancelled; or it ends.
  :: d_step { RUNS_IT && ROOM -> send() }
  :: d_step { RUNS_IT ->
#ifdef REACHED
       assert(!(AS_KNOWN && epoch == 3 && runs == 1));
#endif
       if
       :: AS_KNOWN -> ended = true
       :: else
       fi;
       forget() }
  od
}

inline answer(i, what) {
  if
  :: waits[message[i].from] == i + 1 -> told[message[i].from] = what; waits[message[i].from] = 0
  :: else
  fi
}

inline clear(i) {
  message[i].used = false; message[i].from = 0; message[i].to = 0;
  message[i].to_process = 0; message[i].of_epoch = 0
}

inline accept(i) {
  assert(message[i].of_epoch >= acted);  // no owner acts after a later one has
  fence[me] = message[i].of_epoch; acted = message[i].of_epoch
}

// An order is read. `free`: there is a seat.
inline read(i, free) {
  if
  :: ANOTHER(i) -> answer(i, gone)
  :: !ANOTHER(i) && TOO_OLD(i) -> answer(i, refused)
  :: !ANOTHER(i) && !TOO_OLD(i) && has[me] -> accept(i); answer(i, has_it)
  :: !ANOTHER(i) && !TOO_OLD(i) && !has[me] && !free -> accept(i); answer(i, no_seat);
#ifndef NO_REMEMBER
     fence[me] = message[i].of_epoch + 1
#endif
  :: !ANOTHER(i) && !TOO_OLD(i) && !has[me] && free ->
     accept(i); has[me] = true; runs = runs + 1;
     assert(runs <= 1);  // no job is run twice
     answer(i, granted)
  fi;
  clear(i)
}

proctype Worker(byte me) {
  do
  :: d_step { process[me] + 1 < PROCESSES -> process[me] = process[me] + 1; fence[me] = 0; has[me] = false }  // killed
  :: d_step { message[0].used && message[0].to == me -> read(0, true) }
  :: d_step { message[0].used && message[0].to == me -> read(0, false) }
  :: d_step { message[1].used && message[1].to == me -> read(1, true) }
  :: d_step { message[1].used && message[1].to == me -> read(1, false) }
  od
}

proctype World() {
  do
  :: d_step { message[0].used -> clear(0) }  // lost
  :: d_step { message[1].used -> clear(1) }
  od
}

init {
  atomic {
    run Queen(0); run Queen(1);
#if QUEENS > 2
    run Queen(2);
#endif
    run Worker(0); run Worker(1); run World()
  }
}
