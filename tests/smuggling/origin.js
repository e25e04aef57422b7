// A server that reads every request to its end, and prints each that began and each that it could not read.
const http = require("node:http");
const server = http.createServer((request, response) => {
    console.log(`seen ${request.method} ${request.url}`);
    request.on("data", () => {});
    request.on("end", () => response.end("node\n"));
    request.on("error", () => {});
});
server.on("clientError", (error, socket) => {
    console.log(`bad ${error.code}`);
    socket.destroy();
});
server.keepAliveTimeout = 600000;
server.listen(Number(process.argv[2]), "127.0.0.1");
