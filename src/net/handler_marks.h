// Tells turn_watch.h when Asio calls a handler and of which operation, by the hooks that Asio has for tracking
// handlers: run_one() waits and runs in one call, and only what runs is measured. Included by Asio (src/CMakeLists.txt
// names it to Asio).
#pragma once

namespace llorch::net {
/// A base of every operation of Asio.
struct OperationName {
  const char* name = "";  // such as "async_accept"
};
/// What Asio says of an operation that begins: its context, itself, whose it is, the descriptor, and its name.
template<class Context, class Object, class Descriptor>
void operation_begins(Context&, OperationName& operation, const char*, Object, Descriptor, const char* name) {
  operation.name = name;
}
/// Its handler is the next that this thread runs.
void operation_ends(const OperationName& operation) noexcept;
/// A handler is about to run on this thread.
void handler_begins() noexcept;
}  // namespace llorch::net

#define BOOST_ASIO_INHERIT_TRACKED_HANDLER : public ::llorch::net::OperationName
#define BOOST_ASIO_ALSO_INHERIT_TRACKED_HANDLER , public ::llorch::net::OperationName
#define BOOST_ASIO_HANDLER_TRACKING_INIT (void)0
#define BOOST_ASIO_HANDLER_LOCATION(args) (void)0
#define BOOST_ASIO_HANDLER_CREATION(args) ::llorch::net::operation_begins args
#define BOOST_ASIO_HANDLER_COMPLETION(args) ::llorch::net::operation_ends args
#define BOOST_ASIO_HANDLER_INVOCATION_BEGIN(args) ::llorch::net::handler_begins()
#define BOOST_ASIO_HANDLER_INVOCATION_END (void)0
#define BOOST_ASIO_HANDLER_OPERATION(args) (void)0
#define BOOST_ASIO_HANDLER_REACTOR_REGISTRATION(args) (void)0
#define BOOST_ASIO_HANDLER_REACTOR_DEREGISTRATION(args) (void)0
#define BOOST_ASIO_HANDLER_REACTOR_READ_EVENT 0
#define BOOST_ASIO_HANDLER_REACTOR_WRITE_EVENT 0
#define BOOST_ASIO_HANDLER_REACTOR_ERROR_EVENT 0
#define BOOST_ASIO_HANDLER_REACTOR_EVENTS(args) (void)0
#define BOOST_ASIO_HANDLER_REACTOR_OPERATION(args) (void)0
