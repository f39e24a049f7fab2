/** Loaded before a program of the range: it ends when the process that started it is gone. */
process.on('disconnect', () => process.kill(process.pid, 'SIGTERM'))
process.channel?.unref()
