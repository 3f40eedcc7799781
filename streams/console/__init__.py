"""The console: a page that shows a running system, live, out of its topics. It reads; nothing can be changed from it."""
