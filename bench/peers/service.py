"""FastAPI, as fastapi.tiangolo.com shows.

- "Security", "OAuth2 with Password (and hashing), Bearer with JWT tokens": `OAuth2PasswordBearer`, PyJWT, HS256; the permission as in "OAuth2 scopes".
- "CORS": `CORSMiddleware`. "Response Model": fields that are not in it do not leave. "Body": Pydantic models.
- Its documentation shows neither limits nor security headers: the headers are set by a middleware, as in "Middleware"; there are no limits.
"""
import json
import sys
from typing import Annotated

import jwt
from fastapi import Depends, FastAPI, HTTPException, Path, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.security import OAuth2PasswordBearer
from pydantic import BaseModel, ConfigDict, Field

GIVEN = json.loads(sys.argv[2])
ORDER, NOTE, HOURS = GIVEN["order"], GIVEN["note"], GIVEN["hours"]
oauth2_scheme = OAuth2PasswordBearer(tokenUrl="token")
app = FastAPI()
app.add_middleware(CORSMiddleware, allow_origins=[GIVEN["origin"]], allow_credentials=True)


class Order(BaseModel):
    id: str
    status: str
    total: int
    currency: str
    createdAt: str
    items: int


class Draft(BaseModel):
    model_config = ConfigDict(extra="forbid")
    title: str = Field(min_length=1, max_length=200)
    content: str = Field(min_length=10, max_length=10_000)
    tags: list[Annotated[str, Field(max_length=50)]] = Field(max_length=10)
    priority: int = Field(ge=0, le=9)


class Note(BaseModel):
    id: str
    title: str
    content: str
    tags: list[str]
    priority: int
    createdAt: str


class Hours(BaseModel):
    days: str
    opens: str
    closes: str


@app.middleware("http")
async def add_headers(request: Request, call_next):
    response = await call_next(request)
    response.headers["Content-Security-Policy"] = "default-src 'self'"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


async def get_current_user(token: Annotated[str, Depends(oauth2_scheme)]):
    try:
        return jwt.decode(token, GIVEN["secret"], algorithms=["HS256"])
    except jwt.InvalidTokenError:
        raise HTTPException(status_code=401, headers={"WWW-Authenticate": "Bearer"})


def permitted(permission: str):
    async def check(user: Annotated[dict, Depends(get_current_user)]):
        if permission not in user["permissions"]:
            raise HTTPException(status_code=403)
        return user
    return check


@app.get("/orders/{order_id}", response_model=Order, dependencies=[Depends(permitted(GIVEN["read"]))])
async def read_order(order_id: Annotated[str, Path(max_length=32)]):
    return ORDER


@app.post("/notes", response_model=Note, dependencies=[Depends(permitted(GIVEN["write"]))])
async def write_note(draft: Draft):
    return {**NOTE, **draft.model_dump()}


@app.get("/hours", response_model=Hours)
async def read_hours():
    return HOURS


if __name__ == "__main__":
    import uvicorn
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
